"""Opens files, and walks or removes folders, that a run may write to: nothing there can hold us up.

A pipe in place of a file would, and so would a link to a file system that does not answer.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import List, Optional, Tuple


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


def is_inside(path: bytes) -> bool:
    """Return whether a path names something in its folder, with none of its names empty or a dot."""
    return all(name not in (b"", b".", b"..") for name in path.split(b"/"))


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


def remove_folder(path: str, within: Optional[int] = None) -> None:
    """Remove a folder and all in it, without a look behind a link, whoever makes one meanwhile.

    shutil takes 8 ms to import, and os.fwalk asks what links lead to, which may never answer.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    except OSError:
        return
    try:
        with os.scandir(fd) as entries:
            found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for name, is_folder in found:
            if is_folder:
                remove_folder(name, fd)
            else:
                _try(os.unlink, name, fd)
    except OSError:  # somebody else removes it, too
        pass
    finally:
        os.close(fd)
    _try(os.rmdir, path, within)


def _try(remove: Callable[..., None], name: str, within: Optional[int]) -> None:
    try:
        remove(name, dir_fd=within)
    except OSError:  # something is left, or somebody else removes it, too
        pass
