"""Read the small text files that people write: inventories, job files, ssh_config."""

from __future__ import annotations

import errno
import os

from .errors import DocumentError

#: The largest inventory or job file: nobody writes one of that size.
MOST_BYTES = 4_000_000


def read_text(path: str | os.PathLike[str], what: str) -> str:
    """Return the text of a small UTF-8 file. Raises DocumentError."""
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
