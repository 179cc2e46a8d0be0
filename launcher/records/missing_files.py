"""Files that a process did not find, though another host has them, or the workdir itself. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ..spec import nodeset
from ..spec.patterns import pattern
from .receipt import FirstFailure

#: Words of a line that says that a file is missing.
_MISSING = pattern(
    r"No such file|not found|does not exist|doesn't exist|cannot find|can't find|FileNotFoundError",
    re.IGNORECASE,
)
#: What may be a path in such a line: quoted, or a word.
_QUOTED = pattern(r"'([^']{1,1024})'|\"([^\"]{1,1024})\"|`([^`]{1,1024})`")
_WORD = pattern(r"[^\s'\"`,;:()\[\]]{2,1024}")
#: Paths that are looked for at most.
MOST = 32

#: Returns the hosts that have written a path, ``code/...`` or ``outputs/...`` of the run.
Holders = Callable[[str], Sequence[str]]


def with_holders(failure: FirstFailure, run: str, holders: Holders) -> FirstFailure:
    """Return the failure with its cause, if it is a file that other hosts have and its own has not."""
    for path in _paths(failure.last_lines, run):
        hosts = holders(path)
        if not hosts or failure.host in hosts:
            continue
        have = f"{nodeset.fold(hosts)} {'has' if len(hosts) == 1 else 'have'}"
        name = path.partition("/")[2]
        return replace(
            failure,
            cause=f"{have} {name}, but {failure.host} does not: hosts share no files",
            hint=_hint(path),
        )
    return failure


_NO_MODULE = pattern(r"ModuleNotFoundError: No module named '(\w+)'$")
_FRAME = pattern(r'^\s*File "[^"]*/runs/(?P<run>[^/"]+)/code/(?P<path>[^"]+)"')
#: Returns the folder of the workdir that has a module of this name: ``.``, ``src``; "" for none.
Folder = Callable[[str], str]


def with_own_module(failure: FirstFailure, run: str, folder_of: Folder) -> FirstFailure:
    """Return the failure with its cause, if it is a module of the workdir that Python does not find,
    because the script is in another folder, as ``tools/train.py``."""
    lacking = [found[1] for line in failure.last_lines[-1:] if (found := _NO_MODULE.search(line))]
    frames = [found for line in failure.last_lines if (found := _FRAME.match(line))]
    if not lacking or not frames or frames[0]["run"] != run:
        return failure
    folder = folder_of(lacking[0])
    if not folder or folder == (posixpath.dirname(frames[0]["path"]) or "."):
        return failure
    where = "the workdir" if folder == "." else f"{folder} of the workdir"
    return replace(
        failure,
        cause=f"{lacking[0]} is in {where}, but Python looks for it beside {frames[0]['path']}",
        hint=f"Run with -e PYTHONPATH={folder}, or install the project in the job's setup: "
        "pip install -e .",
    )


def _hint(path: str) -> str:
    kind, *folders, _ = path.split("/")
    if kind == "code" and not folders:
        return (
            "Save it in a folder and run with --share FOLDER: every host of the run then gets it."
        )
    shared = f"--share {folders[0]}" if kind == "code" else "--share '{{outputs}}'"
    return f"Run with {shared}: what one host writes there then appears on all hosts of the run."


def _paths(lines: Sequence[str], run: str) -> Iterator[str]:
    """Yield what lines call missing, relative to the run's folder on a host, the last line first."""
    seen: set[str] = set()
    for line in reversed(lines):
        if not _MISSING.search(line):
            continue
        quoted = ["".join(found) for found in _QUOTED.findall(line)]
        words = [word for word in _WORD.findall(line) if "/" in word or "." in word]
        for text in [*quoted, *words]:
            path = _relative(text.rstrip("."), run)
            if path and path not in seen and len(seen) < MOST:
                seen.add(path)
                yield path


def _relative(text: str, run: str) -> str:
    """Return a path relative to the run's folder; "" for one that is not in it."""
    inside = text.partition(f"/runs/{run}/")[2] if text.startswith("/") else f"code/{text}"
    path = posixpath.normpath(inside)
    return path if path.startswith(("code/", "outputs/")) else ""
