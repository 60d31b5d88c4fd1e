"""Messages of the library in the terms of Python.

The library's hints name options and commands of the command line. Here each becomes what a program in Python writes:
`--max-objects N` is `max_objects=N`, "`cairn ls images:v0`" is "`store.version('images:v0').ls()`". A command that
Python has no call for stays: it was installed with this package.
"""

from __future__ import annotations

import re

# The argument for an option, by what follows the option in the hint; and for an option without a value.
ARGUMENTS = {
    "checksum": ("checksum={}", ""),
    "exclude": ("exclude={}", "exclude"),
    "expect": ("expect={}", "expect"),
    "expect-run": ("expect=[{}]", "expect=[RUN, …]"),
    "force": ("", "force=True"),
    "group": ("group={}", "group"),
    "distributed-id": ("distributed_id={}", "distributed_id"),
    "link": ('link="{}"', "link"),
    "max-objects": ("max_objects={}", "max_objects"),
    "metadata": ("metadata={}", "metadata"),
    "no-checksum": ("", "checksum=False"),
    "on-conflict": ('on_conflict="{}"', "on_conflict"),
    "path": ("path={}", "path"),
    "prune": ("", "prune"),
    "quick": ("", "quick=True"),
    "references": ('references="{}"', "references"),
    "replace": ("", "replace=True"),
    "skip-special": ("", "skip_special=True"),
    "store": ("", "Store(PATH)"),
    "wait": ("wait={}", "wait"),
}
# Options of commands that stay as they are, for what Python has no call.
OF_COMMANDS = {"allow-other", "break", "cache", "foreground"}
# What follows an option as its value: a name in capitals, a value of a choice, or a quoted text.
_OPTION = re.compile(r"--([a-z][a-z-]*)(?: (N|SECONDS|RUN|ID|JSON|'[^']*'|(?:copy|auto|skip|latest)\b))?")
_COMMAND = re.compile(r"`cairn ([^`]*)`")


def _option(match: re.Match[str]) -> str:
    name, value = match.groups()
    with_value, without = ARGUMENTS.get(name, ("", ""))
    if not (with_value or without):
        return match[0]
    if value and with_value:
        return with_value.format(value.strip("'"))
    return without + (f" {value}" if value else "")


def _command(match: re.Match[str]) -> str:
    """A call for a command with plain arguments; the command itself where there is none."""
    name, *arguments = match[1].split(" ")
    if any(argument.startswith("-") for argument in arguments):
        return match[0]
    quoted = [repr(argument) for argument in arguments]
    first, second = [*quoted, "", ""][:2]
    calls = {
        ("drafts", 0): "store.drafts()",
        ("drafts", 1): f"store.drafts({first})",
        ("list", 0): "store.artifacts()",
        ("list", 1): f"store.versions({first})",
        ("ls", 1): f"store.version({first}).ls()",
        ("ls", 2): f"store.version({first}).ls({second})",
        ("cat", 2): f"store.version({first}).read_bytes({second})",
        ("alias", 2): f"store.version({first}).add_alias({second})",
        ("rm", 1): f"store.version({first}).delete()",
        ("verify", 0): "store.verify()",
        ("init", 0): 'cairn.Store.init(".cairn")',
        ("init", 1): "cairn.Store.init(PATH)",
        ("copy", 0): "Version.copy",
    }
    call = calls.get((name, len(arguments)))
    return match[0] if call is None else f"`{call}`"


def in_python(hint: str) -> str:
    """A hint of the library in Python's terms.

    >>> in_python("nothing was added; --max-objects N allows more, a longer prefix names fewer")
    'nothing was added; max_objects=N allows more, a longer prefix names fewer'
    >>> in_python("`cairn ls images:v0 a` lists it")
    "`store.version('images:v0').ls('a')` lists it"
    """
    hint = hint.replace("add_file_at", "add_file")
    hint = re.sub(r"\b([A-Z][a-z]+)::new\b", r"\1(…)", hint)  # Rust's names
    hint = re.sub(r"\b([A-Z][a-z]+)::([a-z_]+)", r"\1.\2", hint)
    parts = re.split(r"(`[^`]*`)", hint)
    for n, part in enumerate(parts):
        parts[n] = _COMMAND.sub(_command, part) if n % 2 else _OPTION.sub(_option, part)
    return "".join(parts)
