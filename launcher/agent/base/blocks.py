"""The blocks in which a data set travels from host to host.

All files of a set in the order of its manifest, one behind the other, are cut into blocks of one
length. So a block holds many small files, or a piece of a large one, and both sides of a copy cut the
same from the manifest alone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from array import array

from . import manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from typing import Dict, NamedTuple

    class Piece(NamedTuple):
        """``length`` bytes of a file from ``offset`` on; the file is the ``number``-th entry of the
        manifest."""

        entry: manifest.Entry
        offset: int
        length: int
        number: int

    class Summed(NamedTuple):
        """The sum of a block, and the sha256 of each file that is whole in it, by path."""

        block: bytes
        files: Dict[bytes, str]
else:
    from collections import namedtuple

    Piece = namedtuple("Piece", "entry offset length number")
    Summed = namedtuple("Summed", "block files")

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


class Damaged(Exception):
    """A block has another sum than it should have."""


class Blocks:
    """Where the blocks of a set begin in its files; it holds a few bytes for each block."""

    def __init__(self, path: str) -> None:
        """Cut the set whose manifest this is. Raises OSError, ValueError."""
        self._path = path
        self.size = sum(entry.size for entry in self.entries())
        self.length = length_for(self.size)
        self.count = -(-self.size // self.length)
        #: By block: where its first file is in the manifest, its number, and the bytes before that file.
        self._at, self._number, self._before = array("Q"), array("Q"), array("Q")
        self._cut()

    def _cut(self) -> None:
        at, before = len(manifest.HEADER), 0
        for number, entry in enumerate(self.entries()):
            while len(self._at) * self.length < before + entry.size:
                self._at.append(at)
                self._number.append(number)
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
        with open(self._path, "rb", 0) as file:
            file.seek(self._at[number])
            entries = manifest.entries_from(file, _READ)
            for place, entry in enumerate(entries, self._number[number]):
                if before >= end:
                    return
                first, last = max(start, before), min(end, before + entry.size)
                if first < last:
                    yield Piece(entry, first - before, last - first, place)
                before += entry.size

    def length_of(self, number: int) -> int:
        """Return the length of a block: the last one may be shorter."""
        return min(self.length, self.size - number * self.length)


def is_whole(piece: Piece) -> bool:
    """Return whether a piece is all of its file."""
    return bool(piece.length == piece.entry.size)


def summed(pieces: Iterable[Piece], data: bytes | bytearray | memoryview) -> Summed:
    """Return the sums of a block. A file that is whole in it counts there by its own sha256, so that no
    byte is summed twice."""
    found, files, at, view = hashlib.sha256(), {}, 0, memoryview(data)
    for piece in pieces:
        part = view[at : at + piece.length]
        at += piece.length
        if is_whole(piece):
            its = hashlib.sha256(part)
            files[piece.entry.path] = its.hexdigest()
            found.update(its.digest())
        else:
            found.update(part)
    return Summed(found.digest(), files)


def damaged(pieces: Iterable[Piece], files: Dict[bytes, str]) -> bytes | None:
    """Return the path of a file whose sum is not that of the manifest, where this has sums."""
    for piece in pieces:
        its = files.get(piece.entry.path)
        known = piece.entry.sum
        if its and known.startswith(manifest.SHA256) and known != manifest.SHA256 + its.encode():
            return piece.entry.path
    return None


def read(pieces: Iterable[Piece], length: int, folder: str) -> bytearray:
    """Return a block of the files in ``folder``. Raises OSError; ESTALE for a file that is shorter."""
    found = bytearray(length)
    view, at, root = memoryview(found), 0, os.fsencode(folder) + b"/"
    for piece in pieces:
        path = root + piece.entry.path
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            end, offset = at + piece.length, piece.offset
            while at < end:
                got = os.preadv(file, [view[at:end]], offset)
                if not got:
                    raise OSError(errno.ESTALE, "it has become shorter", os.fsdecode(path))
                at, offset = at + got, offset + got
        finally:
            os.close(file)
    return found


def write(
    pieces: Iterable[Piece],
    folder: str,
    data: bytes | bytearray,
    but: Container[bytes] = (),
    times: array[int] | None = None,
) -> None:
    """Write a block to the files in ``folder``, except to those of the paths ``but``. A file that is
    whole in it is a new one, with its permissions, and with its time where ``times`` are known; any
    other has its full size at once. Raises OSError."""
    at, view, root = 0, memoryview(data), os.fsencode(folder) + b"/"
    for piece in pieces:
        part = view[at : at + piece.length]
        at += piece.length
        if piece.entry.path in but:
            continue
        file = _opened(root + piece.entry.path, piece)
        try:
            offset = piece.offset
            while part:
                written = os.pwrite(file, part, offset)
                part, offset = part[written:], offset + written
            if times is not None and is_whole(piece):
                moment = times[piece.number]
                os.utime(file, ns=(moment, moment))
        finally:
            os.close(file)


#: Threads that write two parts of one file make it once.
_opening = threading.Lock()
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _opened(path: bytes, piece: Piece) -> int:
    """Open the file of a piece to write that."""
    if is_whole(piece):
        file = new_file(path, 0o555 if piece.entry.executable else 0o444)
        os.ftruncate(file, piece.entry.size)  # to grow page by page costs more than this
        return file
    file = _part_of(path)
    if os.fstat(file).st_size != piece.entry.size:
        os.ftruncate(file, piece.entry.size)
    return file


def new_file(path: bytes, mode: int) -> int:
    """Open a file that was not there: what is may be a half, or that of another version too."""
    while True:
        try:
            file = os.open(path, _FLAGS | os.O_EXCL, mode)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        except FileExistsError:
            os.unlink(path)
        else:
            return file


def _part_of(path: bytes) -> int:
    """Open a file of which other parts may be there; but none that another version has too."""
    with _opening:
        try:
            about = os.lstat(path)
        except FileNotFoundError:
            return new_file(path, 0o600)
        if about.st_nlink > 1:
            return new_file(path, 0o600)
        if not about.st_mode & 0o200:
            os.chmod(path, 0o600)  # it was whole once
        return os.open(path, _FLAGS, 0o600)
