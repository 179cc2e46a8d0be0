"""Open files: the small ones that people write (inventories, job files, ssh_config), and our own."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from .errors import DocumentError, InputError

#: The largest inventory or job file: nobody writes one of that size.
MOST_BYTES = 4_000_000


def require_path(path: object, what: str) -> None:
    """Raise InputError for what is no path, such as an integer: open() takes that for a file which this
    process has open, and closes it."""
    if not isinstance(path, str | os.PathLike):
        raise InputError(
            f"{what}: {path!r:.80} is no path", "give it as text, or as a pathlib.Path"
        )


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """Return the text of a small UTF-8 file. Raises DocumentError, InputError."""
    require_path(path, what)
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except OSError as error:
        hint = ""
        if what == "inventory" and error.errno == errno.ENOENT:
            hint = "create one with launcher init. -i is --inventory here, not a container image"
        raise DocumentError(f"{what} {path}: {error.strerror}", hint, str(path)) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DocumentError("not UTF-8 text", "", str(path), line) from None
    if len(data) > MOST_BYTES:
        raise DocumentError(f"{what} {path}: larger than {MOST_BYTES} bytes", source=str(path))
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise DocumentError("not a text file: it contains a NUL byte", "", str(path), line)
    return text


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    import hashlib  # few commands need it

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_plain(path: Path) -> BinaryIO:
    """Open a regular file to read. Raises OSError, at once for a pipe or a device in its place."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(fd, "rb")
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is no regular file", str(path))
