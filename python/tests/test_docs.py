"""The examples of the documentation and of docstrings, and the types."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import cairn
import pytest

OPTIONS = doctest.IGNORE_EXCEPTION_DETAIL
# PyO3 makes `__all__` of the compiled part. What is written in Python has no stub: there mypy reports only what it
# cannot see, such as metaclasses of fsspec.
KNOWN = r"""
cairn\._cairn\.__all__
cairn\.(fs|mlflow|torch|wandb|_attach|_import|_order)(\..*)?
"""
# What other packages have is not checked.
MYPY = """
[mypy]
[mypy-wandb.*,mlflow.*,torch.*]
follow_imports = skip
ignore_missing_imports = True
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A working directory and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CAIRN_CACHE_DIR", str(tmp_path / "cache"))


def test_the_tour_runs():
    tour = Path(__file__).parents[2] / "docs/python.md"
    result = doctest.testfile(str(tour), module_relative=False, optionflags=OPTIONS)
    assert result.attempted > 20 and result.failed == 0


EXAMPLES = [("cairn", 40), ("cairn._progress", 4), ("cairn.errors", 1), ("cairn.fs", 4)]


@pytest.mark.parametrize(("module", "examples"), EXAMPLES)
def test_the_docstrings_run(module, examples, tmp_path, monkeypatch):
    if module == "cairn.fs":
        pytest.importorskip("fsspec")
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    for number, test in enumerate(finder.find(importlib.import_module(module), module)):
        (tmp_path / str(number)).mkdir()
        monkeypatch.chdir(tmp_path / str(number))
        tour = cairn.Artifact("tour")
        tour.add_bytes("a.txt", "hello")
        tour.add_bytes("sub/b.txt", "second")
        version = tour.save(store := cairn.Store.init("store"))
        test.globs = {"cairn": cairn, "store": store, "version": version}
        runner.run(test)
    assert runner.tries >= examples and runner.failures == 0


def test_the_stub_says_what_the_compiled_part_has(tmp_path):
    """mypy's stubtest compares the signatures."""
    pytest.importorskip("mypy")
    known = tmp_path / "known"
    known.write_text(KNOWN)
    settings = tmp_path / "mypy.ini"
    settings.write_text(MYPY)
    command = [sys.executable, "-m", "mypy.stubtest", "cairn", "--allowlist", str(known)]
    command += ["--mypy-config-file", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
