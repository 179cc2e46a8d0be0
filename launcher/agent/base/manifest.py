"""The list of what a data set holds, which also names it, and the order of its paths.

A manifest starts with ``HEADER``; one entry for each file or link follows, sorted by paths as bytes,
with a NUL behind it: ``f SIZE EXECUTABLE SUM PATH``, or ``l LENGTH TARGETPATH`` with a target of LENGTH
bytes. The start of its sha256 is the set's version: equal content has the same version everywhere.
"""

from __future__ import annotations

import os

from .plain_files import is_inside as is_inside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO, NamedTuple

    class Entry(NamedTuple):
        """A file with its size and sum, or a link with its target."""

        path: bytes
        size: int = 0
        executable: bool = False
        sum: bytes = b""
        target: bytes | None = None
else:
    from collections import namedtuple

    _FIELDS = "path size executable sum target"
    Entry = namedtuple("Entry", _FIELDS, defaults=(0, False, b"", None))

HEADER = b"launcher-data 1\0"
#: Characters of a version.
LENGTH = 32
#: What a sum starts with that says what is in a file, and what the store of the source calls it.
SHA256, ETAG = b"sha256:", b"etag:"
#: Bytes that are read at once.
PIECE = 1 << 20
#: Longest entry: a path and the target of a link, of 4096 bytes each.
LONGEST = 1 << 14


def encode(entry: Entry) -> bytes:
    """Return the bytes of an entry."""
    if entry.target is not None:
        return b"l %d %s%s\0" % (len(entry.target), entry.target, entry.path)
    return b"f %d %d %s %s\0" % (entry.size, entry.executable, entry.sum, entry.path)


def entries(file: BinaryIO) -> Iterator[Entry]:
    """Yield the entries of a manifest. Raises ValueError if it is none."""
    if file.read(len(HEADER)) != HEADER:
        raise ValueError("not a manifest of a data set")
    yield from entries_from(file, PIECE)


def entries_from(file: BinaryIO, at_once: int) -> Iterator[Entry]:
    """Yield the entries from here on; ``at_once`` bytes are read at a time. Raises ValueError."""
    rest, before = b"", b""
    while True:
        piece = file.read(at_once)
        if not piece:
            break
        *whole, rest = (rest + piece).split(b"\0")
        if len(rest) > LONGEST:
            raise ValueError("an entry of the manifest is too long")
        for line in whole:
            entry = _entry(line)
            if entry.path <= before:
                raise ValueError("the manifest is not in order")
            before = entry.path
            yield entry
    if rest:
        raise ValueError("the manifest is cut off")


def _entry(line: bytes) -> Entry:
    kind, _, rest = line.partition(b" ")
    if kind == b"l":
        length, _, both = rest.partition(b" ")
        entry = Entry(both[int(length) :], target=both[: int(length)])
    elif kind == b"f":
        size, executable, checksum, path = rest.split(b" ", 3)
        entry = Entry(path, int(size), executable == b"1", checksum)
    else:
        raise ValueError("the manifest has an entry of an unknown kind")
    if not is_inside(entry.path) or entry.size < 0:
        raise ValueError("a path of the manifest leads elsewhere")
    return entry


def walk(root: bytes, prefix: bytes = b"") -> Iterator[tuple[bytes, os.DirEntry[bytes]]]:
    """Yield ``(relative path, entry)`` of all that is below ``root`` and is no folder, in the order of
    the paths as bytes. It holds one folder of each level at a time. Raises OSError."""
    found = []
    with os.scandir(root + b"/" + prefix if prefix else root) as listed:
        for entry in listed:
            is_folder = entry.is_dir(follow_symlinks=False)
            found.append((entry.name + b"/" if is_folder else entry.name, entry))
    found.sort(key=_name)
    for name, entry in found:
        if name.endswith(b"/"):
            yield from walk(root, prefix + name)
        else:
            yield prefix + name, entry


def _name(item: tuple[bytes, os.DirEntry[bytes]]) -> bytes:
    return item[0]
