"""What a run wrote into its copy of the code, by a list that was made with the copy."""

from __future__ import annotations

import os

from ..base import plain_files
from . import tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Dict, Tuple

    from .tree import Listed

    #: By path, size and modification time; of a link, -1 and -1.
    Snapshot = Dict[str, Tuple[int, int]]

#: Python's byte code, which no script writes by intent.
DULL = "__pycache__"
#: Most paths that are named; the rest is counted.
MOST = 256


def snapshot_of(run_dir: str) -> Snapshot | None:
    """Return what the copy of the code held at first; None for a run of a version that kept no list."""
    try:
        entries = plain_files.content(os.path.join(run_dir, tree.SNAPSHOT)).split(b"\0")[:-1]
    except OSError:
        return None
    found = {}
    for entry in entries:
        size, time, path = entry.split(b" ", 2)
        found[os.fsdecode(path)] = (int(size), int(time))
    return found


def listing(
    run_dir: str, going_on: Callable[[], object]
) -> tuple[list[Listed], tree.Noted, set[str]]:
    """Return the files that the run has written into its copy of the code, what is noted besides, and
    the folders that the copy had from the start."""
    snapshot, noted = snapshot_of(run_dir), tree.Noted()
    if snapshot is None:
        return [], noted, set()
    listed = tree.listing(os.path.join(run_dir, "code"), None, going_on, noted)
    new = [
        (name, size, time)
        for name, size, time in listed
        if snapshot.get(name) != (size, time) and DULL not in name.split("/")
    ]
    return new, noted, folders_of(snapshot)


def folders_of(paths: Iterable[str]) -> set[str]:
    """Return all folders on the way to these paths."""
    found = set()
    for path in paths:
        folder = os.path.dirname(path)
        while folder and folder not in found:
            found.add(folder)
            folder = os.path.dirname(folder)
    return found


def smallest(files: list[Listed], most: int) -> list[Listed]:
    """Return as many files as have at most ``most`` bytes together, the smallest first."""
    found = []
    for one in sorted(files, key=lambda one: one[1]):
        most -= one[1]
        if most < 0:
            break
        found.append(one)
    return found


def summary(
    files: Iterable[Listed], unreadable: Iterable[str], known: set[str]
) -> list[tuple[str, int, int]]:
    """Return files as ``(path, files, bytes)``: a file itself, or the topmost folder that the copy of
    the code did not have, with a slash. The largest come first; an empty path counts the rest."""
    found = {_top(name + "/", known): (0, 0) for name in unreadable}
    for name, size, _ in files:
        top = _top(name, known)
        count, total = found.get(top, (0, 0))
        found[top] = (count + 1, total + size)
    rows = sorted(
        ((top, count, total) for top, (count, total) in found.items()),
        key=lambda row: (-row[2], row[0]),
    )
    rest = rows[MOST:]
    if not rest:
        return rows
    return [*rows[:MOST], ("", sum(row[1] for row in rest), sum(row[2] for row in rest))]


def _top(name: str, known: set[str]) -> str:
    end = name.find("/")
    while end >= 0:
        if name[:end] not in known:
            return name[: end + 1]
        end = name.find("/", end + 1)
    return name
