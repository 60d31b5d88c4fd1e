"""Builds the wheel. maturin builds the extension; the commands `cairn` and `cairnfs` go into the same wheel.

`pip install ./python` makes a release build. `-C profile=dev` takes another profile of Cargo.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import maturin
from maturin import (  # noqa: F401: hooks that are as maturin has them
    build_editable,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

HERE = Path(__file__).parent
COMMANDS = ("cairn", "cairnfs")
# maturin puts what is in a directory of this name into the wheel. It is next to pyproject.toml, which is where the hooks
# run; in the source archive that is above this file.
DATA = Path("cairn._cairn.data").absolute()


def build_sdist(sdist_directory: str, config_settings: Mapping[str, Any] | None = None) -> str:
    """As maturin's, with two files changed so that a wheel can be built of it."""
    made = maturin.build_sdist(sdist_directory, config_settings)
    archive, changed = Path(sdist_directory, made), Path(sdist_directory, made + ".new")
    change = {"pyproject.toml": backend_path, "Cargo.toml": without_tests}
    with tarfile.open(archive) as old, tarfile.open(changed, "w:gz") as new:
        for member in old:
            file = old.extractfile(member)
            _, _, path = member.name.partition("/")
            if file is not None and path in change:
                text = change[path](file.read().decode()).encode()
                member.size, file = len(text), io.BytesIO(text)
            new.addfile(member, file)
    changed.replace(archive)
    return made


def backend_path(pyproject: str) -> str:
    """maturin puts pyproject.toml at the root of the archive, above this file."""
    return pyproject.replace('backend-path = ["."]', 'backend-path = ["python"]')


def without_tests(manifest: str) -> str:
    """The archive has no tests and no benches of the library. Cargo refuses a manifest that names missing files."""
    return re.sub(r"^\[\[(test|bench)\]\]\n(?:(?!\[).*\n)*", "", manifest, flags=re.MULTILINE)


def build_wheel(
    wheel_directory: str, config_settings: Mapping[str, Any] | None = None, metadata_directory: str | None = None
) -> str:
    settings = dict(config_settings or {})
    profile = settings.pop("profile", "release")
    if not shutil.which("cargo"):
        from puccinialin import setup_rust  # maturin requires it where there is no cargo

        os.environ.update(setup_rust())
    arguments = maturin.get_maturin_pep517_args(settings)
    settings["build-args"] = [*arguments, "--profile", profile]
    try:
        build_commands(profile)
        return maturin.build_wheel(wheel_directory, settings, metadata_directory)
    finally:
        shutil.rmtree(DATA, ignore_errors=True)


def build_commands(profile: str) -> None:
    """Builds the commands and puts them, without symbols, where maturin finds them."""
    scripts = DATA / "scripts"
    scripts.mkdir(parents=True, exist_ok=True)
    # With both packages, so that the library is compiled once for the commands and the extension.
    command = ["cargo", "build", "--package", "cairnfs", "--package", "cairnfs-python", "--bins"]
    command += ["--profile", profile, "--message-format", "json-render-diagnostics"]
    print("Running", shlex.join(command), flush=True)
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, check=True)
    artifacts = [json.loads(line) for line in done.stdout.splitlines()]
    built = {Path(a["executable"]).name: a["executable"] for a in artifacts if a.get("executable")}
    for name in COMMANDS:
        shutil.copy2(built[name], scripts / name)
        if strip := shutil.which("strip"):
            subprocess.run([strip, scripts / name], check=True)
