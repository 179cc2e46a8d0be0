"""Sends a folder of outputs as one tar file while it is read: nothing is written here."""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import confined

_CHUNK = 1 << 18
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def tar(root: Path, parts: Sequence[str], name: str) -> Iterator[bytes]:
    """Yield a tar file with the regular files below a folder, under ``name``; no link is followed.

    A file that becomes shorter meanwhile is filled up with zeros. Raises OSError, before the first
    bytes.
    """
    with confined.folder(root, parts) as top:
        yield b""
        for place, folders, names, here in os.fwalk(".", dir_fd=top, follow_symlinks=False):
            folders.sort()
            for one in sorted(names):
                path = os.path.normpath(os.path.join(name, place, one))
                yield from _file(here, one, path)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _file(folder: int, name: str, path: str) -> Iterator[bytes]:
    try:
        file = os.open(name, _FLAGS, dir_fd=folder)
    except OSError:  # a link, or removed meanwhile
        return
    with os.fdopen(file, "rb", buffering=0) as data:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            return
        entry = tarfile.TarInfo(path)
        entry.size, entry.mtime, entry.mode = facts.st_size, int(facts.st_mtime), 0o644
        yield entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        left = facts.st_size
        while left > 0:
            chunk = data.read(min(_CHUNK, left)) or bytes(min(_CHUNK, left))
            left -= len(chunk)
            yield chunk
        yield bytes(-facts.st_size % tarfile.BLOCKSIZE)
