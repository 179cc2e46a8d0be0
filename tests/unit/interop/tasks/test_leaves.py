"""Nothing of a task file is dropped in silence: every value changes the job, or what is said about it."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from launcher.interop import tasks
from launcher.spec.errors import DocumentError
from support.task_files import TASKS

Path = tuple[Any, ...]
FILES = {file.stem: yaml.safe_load(file.read_text()) for file in sorted(TASKS.glob("*.yaml"))}
#: What says no more than what format a file has, or how the format counts.
FORM = {("type",), ("kind",), ("version",), ("run", "kind")}


def outcome(name: str, value: Any) -> str:
    """Job file and notes, with "#" for each number of a line; or the complaint."""
    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=False)
    try:
        ours, _ = tasks.read(text, "theirs", name.partition("-")[0])
    except DocumentError as error:
        return f"{error.message} {error.hint}"
    return re.sub(r"^#   lines? ([^:]*)", lambda m: re.sub(r"\d+", "#", m[0]), ours, flags=re.M)


def places(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value of a tree with its path."""
    yield path, value
    inside = value.items() if isinstance(value, dict) else ()
    for key, one in inside or (enumerate(value) if isinstance(value, list) else ()):
        yield from places(one, (*path, key))


def changed(value: Any, path: Path, give: Any) -> Any:
    """A copy whose value at a path is another one; None takes it away."""
    made = copy.deepcopy(value)
    inside = made
    for step in path[:-1]:
        inside = inside[step]
    if give is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = give
    return made


LEAVES = [
    (name, path)
    for name, value in FILES.items()
    for path, one in places(value)
    if path and path not in FORM and not isinstance(one, dict | list)
]
MAPPINGS = [
    (name, path)
    for name, value in FILES.items()
    for path, one in places(value)
    if isinstance(one, dict)
]


def told(case: tuple[str, Path]) -> str:
    return f"{case[0]}:{'.'.join(map(str, case[1]))}"


@pytest.mark.parametrize(("name", "path"), LEAVES, ids=map(told, LEAVES))
def test_every_value_counts_for_something(name: str, path: Path) -> None:
    """Where it is taken away, or where it is another one."""
    whole, value = FILES[name], FILES[name]
    for step in path:
        value = value[step]
    other = value + 1 if isinstance(value, int | float) and value is not True else f"{value}2"
    outcomes = {outcome(name, changed(whole, path, give)) for give in (None, other)}
    assert outcomes != {outcome(name, whole)}


@pytest.mark.parametrize(("name", "path"), MAPPINGS, ids=map(told, MAPPINGS))
def test_a_key_that_nobody_knows_is_named(name: str, path: Path) -> None:
    """In every mapping of every file: it is carried over, or told."""
    word = "zz_nobody_knows"
    assert word in outcome(name, changed(FILES[name], (*path, word), "a")), outcome(
        name, FILES[name]
    )
