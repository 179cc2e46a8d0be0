"""Opens files in folders that a run may write to: a pipe in their place would hold us up for ever."""

from __future__ import annotations

import errno
import os
import stat


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
