"""Opens files, and walks through folders, that a run may write to: a pipe in their place, or a link to a
file system that does not answer, would hold us up for ever."""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import List, Tuple


def opened(path: str, flags: int = os.O_RDONLY) -> int:
    """Return a descriptor of a regular file. Raises OSError, at once whatever ``path`` is."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file", path)
    return fd


def content(path: str, start: int = 0) -> bytes:
    """Return what a regular file holds from ``start`` on. Raises OSError."""
    with os.fdopen(opened(path), "rb") as file:
        file.seek(start)
        return file.read()


def text(path: str) -> str:
    """Return what a regular file says; "" where there is none, or it may not be read."""
    try:
        return content(path).decode("utf-8", "replace")
    except OSError:
        return ""


def walk(top: str) -> Iterator[Tuple[str, List[str], List[str]]]:
    """Yield each folder from ``top`` on with the names of the folders and of all else in it, as os.walk
    does, which looks behind links. What cannot be read is passed over."""
    left = [top]
    while left:
        base = left.pop()
        folders: List[str] = []
        others: List[str] = []
        try:
            with os.scandir(base) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    (folders if is_folder else others).append(entry.name)
        except OSError:
            continue
        yield base, folders, others
        left += [os.path.join(base, name) for name in reversed(folders)]
