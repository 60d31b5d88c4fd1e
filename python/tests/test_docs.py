"""The examples of the documentation and of docstrings."""

import doctest
from pathlib import Path

import cairn

OPTIONS = doctest.IGNORE_EXCEPTION_DETAIL


def test_the_tour_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tour = Path(__file__).parents[2] / "docs/python.md"
    result = doctest.testfile(str(tour), module_relative=False, optionflags=OPTIONS)
    assert result.attempted > 20 and result.failed == 0


def test_the_docstrings_run():
    result = doctest.testmod(cairn, optionflags=OPTIONS)
    assert result.attempted > 4 and result.failed == 0
