"""Errors say what a program in Python can do next: they name arguments and calls, not options of the command line."""

import doctest
import os
import re
from pathlib import Path

import cairn
import pytest
from cairn import _terms

SOURCES = Path(__file__).parents[2] / "src"
# Options of other programs.
FOREIGN = {"cap-add", "device"}


def texts():
    """The string literals of the library outside comments and its own tests."""
    for path in sorted(SOURCES.rglob("*.rs")):
        if "tests" in path.parts:
            continue
        for line in path.read_text().split("#[cfg(test)]")[0].splitlines():
            if not line.lstrip().startswith("//"):
                yield from re.findall(r'"((?:[^"\\]|\\.)*)"', line)


def test_every_option_that_the_library_names_has_its_term():
    named = set()
    for text in texts():
        outside_commands = re.sub(r"`[^`]*`", "", text)
        named |= set(re.findall(r"--([a-z][a-z-]*)", outside_commands))
    assert {"force", "max-objects", "wait"} <= named, "the search finds what it should"
    assert named - FOREIGN <= _terms.ARGUMENTS.keys() | _terms.OF_COMMANDS


def test_the_examples():
    assert doctest.testmod(_terms).attempted == 2 and doctest.testmod(_terms).failed == 0


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("use --link copy", 'use link="copy"'),
        ("--wait SECONDS waits for them", "wait=SECONDS waits for them"),
        ("remove the alias first, or use --force", "remove the alias first, or use force=True"),
        ("give --expect none, or omit --expect", "give expect none, or omit expect"),
        ("`cairn verify --repair` stores it", "`cairn verify --repair` stores it"),
        ("`cairn verify` lists it; `cairn list a` too", "`store.verify()` lists it; `store.versions('a')` too"),
        ("begin with Version::new_draft or Artifact::new", "begin with Version.new_draft or Artifact(…)"),
    ],
)
def test_hints_are_said_in_python(hint, said):
    assert _terms.in_python(hint) == said


def save(store, name="images", **files):
    artifact = cairn.Artifact(name)
    for path, data in files.items():
        artifact.add_bytes(path, data)
    return artifact.save(store)


def too_many_objects(store):
    Path("two").mkdir()
    Path("two/a").touch()
    Path("two/b").touch()
    cairn.Artifact("x").add_reference(f"file://{os.getcwd()}/two", max_objects=1)


def no_server(store):
    cairn.Artifact("x").add_reference("http://127.0.0.1:9/far")


def missing_runs(store):
    cairn.Run(store, "a").upsert_artifact(cairn.Artifact("x"), "id")
    cairn.Run(store, "a").finish_artifact(cairn.Artifact("x"), "id", expect=2, wait=0.1)


def a_file_that_differs(store):
    version = save(store, a="new")
    Path("out").mkdir()
    Path("out/a").write_text("old")
    version.download("out")


def an_alias(store):
    version = save(store, a="1")
    version.add_alias("prod")
    version.delete()


def a_pipe(store):
    Path("d").mkdir()
    os.mkfifo("d/pipe")
    artifact = cairn.Artifact("x")
    artifact.add_dir("d")
    artifact.save(store)


def a_missing_path(store):
    save(store, a="1").read_bytes("b")


def the_store_itself(store):
    artifact = cairn.Artifact("x")
    artifact.add_dir(store.root)
    artifact.save(store)


def no_store(store):
    os.chdir("/")
    cairn.Store()


CASES = [
    (too_many_objects, "max_objects=N"),
    (no_server, "checksum=False"),
    (missing_runs, "without expect"),
    (a_file_that_differs, "force=True"),
    (an_alias, "force=True"),
    (a_pipe, "skip_special=True or exclude"),
    (a_missing_path, "`store.version('images:v0').ls()`"),
    (the_store_itself, "`Version.copy`"),
    (no_store, "`cairn.Store.init"),
]


@pytest.mark.parametrize(("fail", "expected"), CASES)
def test_no_error_names_an_option(store, fail, expected):
    with pytest.raises(cairn.CairnError) as raised:
        fail(store)
    assert expected in raised.value.hint and "--" not in str(raised.value)
