"""Files that came from elsewhere, and are no outputs of this host unless the run changes them.

``shared.list`` in the run's folder has those of shared folders, by their paths in the run's folder;
``given.list`` has outputs that the launcher handed over, by their paths among the outputs. Both have
``size time path`` of each file, with a NUL behind.
"""

from __future__ import annotations

import os

from . import plain_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, List, Tuple

NAME = "shared.list"
#: Also in runner/files/seeding.py.
GIVEN = "given.list"


def note(run_dir: str, path: str, size: int, time: int) -> None:
    """Note a file with its size and its time in nanoseconds. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    file = os.open(os.path.join(run_dir, NAME), flags, 0o600)
    try:
        os.write(file, b"%d %d %s\0" % (size, time, os.fsencode(path)))
    finally:
        os.close(file)


def files(run_dir: str, folder: str) -> Dict[str, Tuple[int, int]]:
    """Return what came from other hosts to a folder of the run: size and time by path in it."""
    found: Dict[str, Tuple[int, int]] = {}
    for path, state in _read(run_dir, NAME):
        top, _, inside = path.partition("/")
        if top == folder:
            found[inside] = state
    return found


def given(run_dir: str) -> Dict[str, Tuple[int, int]]:
    """Return what the launcher handed over: size and time by path among the outputs."""
    return dict(_read(run_dir, GIVEN))


def _read(run_dir: str, name: str) -> List[Tuple[str, Tuple[int, int]]]:
    try:
        entries = plain_files.content(os.path.join(run_dir, name)).split(b"\0")[:-1]
    except OSError:
        return []
    found = []
    for entry in entries:
        size, time, path = entry.split(b" ", 2)
        found.append((os.fsdecode(path), (int(size), int(time))))
    return found
