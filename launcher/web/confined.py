"""Opens files below the folder of runs, and nothing else: hosts have named and written them.

Every folder on the way is opened from the one above it, and no link is followed, so neither ``..``
nor a link that is exchanged meanwhile leads outside.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ..spec.frozen import frozen

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: Not blocking: a host may have written a FIFO, which has no end to wait for.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
#: Most entries of one folder in a listing.
MOST = 5000


@frozen
class Entry:
    """A file, folder or link in a folder; ``size`` is that of a file."""

    name: str
    kind: str
    size: int
    modified: float


@contextmanager
def opened(root: Path, parts: Sequence[str], flags: int = _FILE) -> Iterator[int]:
    """Open a regular file below ``root``. Raises OSError."""
    with folder(root, parts[:-1]) as above:
        file = os.open(_plain(parts[-1]), flags, dir_fd=above)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise FileNotFoundError(parts[-1])
        yield file
    finally:
        os.close(file)


@contextmanager
def folder(root: Path, parts: Sequence[str]) -> Iterator[int]:
    """Open a folder below ``root``. Raises OSError."""
    here = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            below = os.open(_plain(part), _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def entries(root: Path, parts: Sequence[str]) -> tuple[list[Entry], bool]:
    """Return what is in a folder, folders first, and whether there is more. Raises OSError."""
    found: list[Entry] = []
    with folder(root, parts) as here, os.scandir(here) as listing:
        for entry in listing:
            if len(found) == MOST:
                return _sorted(found), True
            try:
                facts = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            found.append(
                Entry(_text(entry.name), _kind(facts.st_mode), facts.st_size, facts.st_mtime)
            )
    return _sorted(found), False


def _sorted(found: list[Entry]) -> list[Entry]:
    return sorted(found, key=lambda entry: (entry.kind != "folder", entry.name))


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "other"


def _text(name: str) -> str:
    """Return a name that JSON can hold; one that is no UTF-8 cannot be asked for."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


def _plain(part: str) -> str:
    if part in ("", ".", "..") or "/" in part or "\0" in part:
        raise FileNotFoundError(part)
    return part
