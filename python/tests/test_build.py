"""The source archive, from which `pip install` builds where there is no wheel."""

import email
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import cairn
import pytest

TREE = Path(__file__).parents[1]
CALL = """
import sys
sys.path[:0] = sys.argv[2:]
import build_backend
print(eval(sys.argv[1]))
"""


def call(hook, tree, *backend_path):
    """A hook of the build backend, called as pip does."""
    command = [sys.executable, "-c", CALL, hook, *backend_path]
    environment = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@pytest.mark.skipif(not shutil.which("cargo"), reason="needs cargo")
def test_the_source_archive_has_what_a_build_needs(tmp_path):
    pytest.importorskip("maturin")
    tomllib = pytest.importorskip("tomllib")
    made = call(f"build_backend.build_sdist({str(tmp_path)!r})", TREE, str(TREE))
    with tarfile.open(tmp_path / made) as archive:
        archive.extractall(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [made.removesuffix(".tar.gz"), made]
    tree = tmp_path / made.removesuffix(".tar.gz")
    for path in ("Cargo.lock", "src/lib.rs", "bin/cairn/main.rs", "bin/cairnfs/main.rs", "python/src/lib.rs"):
        assert (tree / path).is_file(), path
    assert not list(tree.rglob("*.so"))
    manifest = tomllib.loads((tree / "Cargo.toml").read_text())
    own = tomllib.loads((TREE.parent / "Cargo.toml").read_text())
    assert manifest["bin"] == own["bin"] and not manifest.keys() & {"test", "bench"}, "their files are not in it"
    for section in ("dependencies", "features", "profile", "lib"):
        assert manifest[section] == own[section]
    build = tomllib.loads((tree / "pyproject.toml").read_text())["build-system"]
    (at,) = build["backend-path"]
    where = call(f"build_backend.prepare_metadata_for_build_wheel({str(tmp_path)!r})", tree, str(tree / at))
    metadata = email.message_from_string((tmp_path / where / "METADATA").read_text())
    assert (metadata["Name"], metadata["Version"]) == ("cairnfs", cairn.__version__)
    said = (tmp_path / where / "entry_points.txt").read_text()
    for name in ("cairn.fs:CairnFileSystem", "cairn.mlflow:CairnArtifactRepository", "cairn._import:main"):
        assert name in said
