"""Files of shared folders that came from other hosts of the run: no outputs of this one.

``shared.list`` in the run's folder has ``size time path`` of each, with a NUL behind.
"""

from __future__ import annotations

import os

from . import plain_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict, Tuple

NAME = "shared.list"


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
    try:
        entries = plain_files.content(os.path.join(run_dir, NAME)).split(b"\0")[:-1]
    except OSError:
        return {}
    found: Dict[str, Tuple[int, int]] = {}
    for entry in entries:
        size, time, path = entry.split(b" ", 2)
        top, _, inside = os.fsdecode(path).partition("/")
        if top == folder:
            found[inside] = (int(size), int(time))
    return found
