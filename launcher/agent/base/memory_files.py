"""Files for programs that read nothing else, which nobody can find."""

from __future__ import annotations

import os


def in_memory(text: str) -> int:
    """Return a descriptor of a file with this text, which is on no disk or has no name any more."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("launcher", os.MFD_CLOEXEC)
    else:  # a Python built with an old C library
        import tempfile

        fd, path = tempfile.mkstemp()  # 0600
        os.unlink(path)
    data = text.encode("utf-8", "surrogateescape")
    while data:
        data = data[os.write(fd, data) :]
    return fd
