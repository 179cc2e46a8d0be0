"""The blocks in which a data set travels from host to host.

All files of a set in the order of its manifest, one behind the other, are cut into blocks of one
length. So a block holds many small files, or a piece of a large one, and both sides of a copy cut the
same from the manifest alone.
"""

from __future__ import annotations

import errno
import os
from array import array

from . import manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NamedTuple

    class Piece(NamedTuple):
        """``length`` bytes of a file from ``offset`` on; the file is an entry of the manifest."""

        entry: manifest.Entry
        offset: int
        length: int
else:
    from collections import namedtuple

    Piece = namedtuple("Piece", "entry offset length")

#: Bytes of a block: of a small set, of one that is not large, and the longest; between them, a set has
#: at most FEW blocks, and at most MOST. A host passes on only whole blocks, so there should be many.
SHORTEST, LENGTH, LONGEST = 1 << 19, 4 << 20, 15 << 20
FEW, MOST = 256, 8192
#: Bytes of a manifest that are read at once.
_READ = 1 << 16


def length_for(size: int) -> int:
    """Return the length of the blocks of a set of so many bytes."""
    length = SHORTEST
    while length < LENGTH and size > length * FEW:
        length *= 2
    while length + (1 << 20) <= LONGEST and size > length * MOST:
        length += 1 << 20
    return length


class Blocks:
    """Where the blocks of a set begin in its files; it holds a few bytes for each block."""

    def __init__(self, path: str) -> None:
        """Cut the set whose manifest this is. Raises OSError, ValueError."""
        self._path = path
        self.size = sum(entry.size for entry in self.entries())
        self.length = length_for(self.size)
        self.count = -(-self.size // self.length)
        #: By block: where its first file is in the manifest, and how many bytes come before that file.
        self._at, self._before = array("Q"), array("Q")
        self._cut()

    def _cut(self) -> None:
        at, before = len(manifest.HEADER), 0
        for entry in self.entries():
            while len(self._at) * self.length < before + entry.size:
                self._at.append(at)
                self._before.append(before)
            at, before = at + len(manifest.encode(entry)), before + entry.size

    def entries(self) -> Iterator[manifest.Entry]:
        """Yield what is in the set."""
        with open(self._path, "rb") as file:
            yield from manifest.entries(file)

    def pieces(self, number: int) -> Iterator[Piece]:
        """Yield what a block consists of."""
        start = number * self.length
        end, before = start + self.length, self._before[number]
        with open(self._path, "rb") as file:
            file.seek(self._at[number])
            for entry in manifest.entries_from(file, _READ):
                if before >= end:
                    return
                first, last = max(start, before), min(end, before + entry.size)
                if first < last:
                    yield Piece(entry, first - before, last - first)
                before += entry.size

    def length_of(self, number: int) -> int:
        """Return the length of a block: the last one may be shorter."""
        return min(self.length, self.size - number * self.length)


def read(blocks: Blocks, number: int, folder: str) -> bytearray:
    """Return a block of the files in ``folder``. Raises OSError; ESTALE for a file that is shorter."""
    found = bytearray(blocks.length_of(number))
    at = 0
    for piece in blocks.pieces(number):
        path = os.path.join(os.fsencode(folder), piece.entry.path)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(path, flags), "rb", 0) as file:
            file.seek(piece.offset)
            left = memoryview(found)[at : at + piece.length]
            while left:
                got = file.readinto(left)
                if not got:
                    raise OSError(errno.ESTALE, "it has become shorter", os.fsdecode(path))
                left = left[got:]
        at += piece.length
    return found


def write(blocks: Blocks, number: int, folder: str, data: bytes | bytearray) -> None:
    """Write a block to the files in ``folder``, which get their full size at once. Raises OSError."""
    at = 0
    for piece in blocks.pieces(number):
        path = os.path.join(os.fsencode(folder), piece.entry.path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            file = os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            file = os.open(path, flags, 0o600)
        try:
            if os.fstat(file).st_size != piece.entry.size:
                os.ftruncate(file, piece.entry.size)
            left, offset = memoryview(data)[at : at + piece.length], piece.offset
            while left:
                written = os.pwrite(file, left, offset)
                left, offset = left[written:], offset + written
        finally:
            os.close(file)
        at += piece.length
