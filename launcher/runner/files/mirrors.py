"""The mirror of a host: what of its outputs has come to this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ...spec.packed import LARGEST

#: The folder in which rsync keeps a file of which it has a half.
PARTIAL = ".partial"
#: The state of a file that does not exist.
NOWHERE = (-1, -1)


def state_of(path: str | Path) -> tuple[int, int]:
    """Return size and modification time of a file; (-1, -1) where there is none."""
    try:
        status = os.lstat(path)
    except OSError:
        return NOWHERE
    return (status.st_size, min(status.st_mtime_ns, LARGEST))


def files_of(mirror: Path) -> list[str]:
    """Return the paths of all complete files of a mirror."""
    return list(walk(mirror))


def walk(mirror: Path) -> Iterator[str]:
    """Yield the same, of which there may be a million."""
    return map(os.fsdecode, walked(os.fsencode(mirror)))


def walked(root: bytes) -> Iterator[bytes]:
    """Yield the paths of all complete files below a folder, sorted. A folder that cannot be read counts
    as empty."""
    folders = [(b"", iter(_entries(root)))]
    while folders:
        prefix, names = folders[-1]
        name = next(names, None)
        if name is None:
            folders.pop()
        elif name.endswith(b"/"):
            folders.append((prefix + name, iter(_entries(root + b"/" + prefix + name))))
        else:
            yield prefix + name


def _entries(folder: bytes) -> list[bytes]:
    """Return the files and folders in a folder in the order of what is below them: a slash counts."""
    found = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    found.append(entry.name)
                elif entry.is_dir(follow_symlinks=False) and entry.name != os.fsencode(PARTIAL):
                    found.append(entry.name + b"/")
    except OSError:
        pass
    return sorted(found)
