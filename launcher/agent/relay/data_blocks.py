"""The blocks of a data set on this host: of a version that is here, or of a copy that is being made.

A copy notes each block that has arrived, with its sum, in ``blocks-LENGTH``: 4 bytes of its number and
32 of its sha256. So an interrupted copy goes on with what it has, and never with what another release
has cut into blocks of another length.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading

from ..base import blocks, manifest
from . import data_sums

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Tuple

#: The notes of a copy: how the name of what has arrived begins, and when its files were changed at their
#: source.
NOTES, TIMES = "blocks", "times"
_NOTE = struct.Struct(">I32s")


class Copy:
    """The blocks of a version; ``places`` are the folders where it is, one after the other."""

    def __init__(self, places: tuple[str, ...]) -> None:
        """Raises OSError, ValueError."""
        self._places = places
        self._lock = threading.Condition()
        here = next(place for place in places if os.path.isdir(place))
        # It is read again and again, also after the copy has become a version and was renamed.
        self._manifest = os.open(os.path.join(here, "manifest"), os.O_RDONLY | os.O_CLOEXEC)
        self.cut = blocks.Blocks("/proc/self/fd/%d" % self._manifest)
        self.count = self.cut.count
        self.have = 0
        self._sums: dict[int, bytes] = {}
        self._written: set[int] = set()  # by a thread, at this moment
        self._notes = os.path.join(places[0], "%s-%d" % (NOTES, self.cut.length))

    def length_of(self, number: int) -> int:
        """Return the length of a block."""
        return self.cut.length_of(number)

    @property
    def is_whole(self) -> bool:
        """Whether all blocks are here."""
        return self.have == (1 << self.count) - 1

    @property
    def place(self) -> str:
        """The folder of the copy, or of the version."""
        return self._places[0]

    def have_all(self) -> None:
        """Count all blocks as here: it is a version that is whole, or a folder of its user."""
        self.have = (1 << self.count) - 1

    def load(self, going_on: Callable[[], object]) -> None:
        """Find out which blocks of a copy are here: those that were noted, and those whose files another
        version had. Their files must be there with their sizes."""
        place = self._places[0]
        noted = self._noted()
        taken = data_sums.noted(place)
        for number in range(self.count):
            pieces = self.cut.pieces(number)
            if number in noted:
                is_here = all(self._is_there(place, piece.entry) for piece in pieces)
            else:
                is_here = all(
                    piece.entry.path in taken and self._is_there(place, piece.entry)
                    for piece in pieces
                )
            if is_here:
                self.have |= 1 << number
            else:
                noted.pop(number, None)
            going_on()
        self._sums = noted
        with open(self._notes, "wb") as file:
            for number, checksum in noted.items():
                file.write(_NOTE.pack(number, checksum))

    def _noted(self) -> dict[int, bytes]:
        try:
            with open(self._notes, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return {}
        whole = len(data) // _NOTE.size * _NOTE.size
        found = dict(_NOTE.iter_unpack(data[:whole]))
        return {number: checksum for number, checksum in found.items() if number < self.count}

    @staticmethod
    def _is_there(place: str, entry: manifest.Entry) -> bool:
        try:
            status = os.lstat(os.path.join(os.fsencode(place), b"files", entry.path))
        except OSError:
            return False
        return status.st_size == entry.size

    def replace(self, other: Copy) -> None:
        """Be as another look at the same copy has found it."""
        with self._lock:
            self.have, self._sums = other.have, other._sums
            self._lock.notify_all()

    def read(self, number: int) -> Tuple[bytearray, str]:
        """Return a block and its sum: the one that it came with. Raises OSError."""
        for place in self._places:
            try:
                data = blocks.read(self.cut, number, os.path.join(place, "files"))
                break
            except FileNotFoundError:
                if place == self._places[-1]:
                    raise
        known = self._sums.get(number)
        return data, (known or hashlib.sha256(data).digest()).hex()

    def write(self, number: int, data: bytes | bytearray, checksum: str) -> None:
        """Write a block, and note it. One that is here, or that another thread writes, stays as it is:
        its file may be summed by now. Raises OSError."""
        digest = bytes.fromhex(checksum)
        with self._lock:
            if self.have >> number & 1 or number in self._written:
                return
            self._written.add(number)
        try:
            blocks.write(self.cut, number, os.path.join(self._places[0], "files"), data)
            with self._lock:
                with open(self._notes, "ab", 0) as file:
                    file.write(_NOTE.pack(number, digest))
                self._sums[number] = digest
                self.have |= 1 << number
                self._lock.notify_all()
        finally:
            with self._lock:
                self._written.discard(number)

    def wait_for(self, number: int, is_over: Callable[[], bool]) -> bool:
        """Wait until a block is here; return False where it ``is_over`` before."""
        with self._lock:
            while not self.have >> number & 1:
                if is_over():
                    return False
                self._lock.wait()
        return True

    def wake(self) -> None:
        """Have all who wait for a block look again."""
        with self._lock:
            self._lock.notify_all()


def take_from(place: str, base: str, going_on: Callable[[], object]) -> None:
    """Link the files that another version, whose files are in ``base``, has with the same sum."""
    if not base:
        return
    other = os.path.dirname(base)
    earlier = data_sums.entries(other, "contents") if _has(other, "contents") else None
    earlier = earlier or data_sums.entries(other, "manifest")
    known = next(earlier, None)
    with open(os.path.join(place, "sums"), "ab", 0) as sums:
        for entry in data_sums.entries(place, "manifest"):
            while known is not None and known.path < entry.path:
                known = next(earlier, None)
            whole = os.path.join(os.fsencode(place), b"files", entry.path)
            if known is None or known.path != entry.path or entry.target is not None:
                continue
            if known.sum != entry.sum or known.size != entry.size or os.path.lexists(whole):
                continue
            try:
                os.makedirs(os.path.dirname(whole), mode=0o700, exist_ok=True)
                os.link(os.path.join(os.fsencode(base), entry.path), whole)
            except OSError:
                continue
            sums.write(b"%s %s\0" % (entry.sum, entry.path))
            going_on()


def _has(place: str, name: str) -> bool:
    return os.path.exists(os.path.join(place, name))


def complete(place: str, going_on: Callable[[], object]) -> None:
    """Make what no block has: empty files, links, and the times of files. Raises OSError."""
    times = _times(place)
    for number, entry in enumerate(data_sums.entries(place, "manifest")):
        path = os.path.join(os.fsencode(place), b"files", entry.path)
        going_on()
        if entry.size or os.path.lexists(path):
            if times and entry.target is None and os.path.lexists(path):
                _set_time(path, times[number])
            continue
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        if entry.target is not None:
            os.symlink(entry.target, path)
            continue
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        if times:
            _set_time(path, times[number])


def _set_time(path: bytes, moment: int) -> None:
    status = os.lstat(path)
    if status.st_mtime_ns != moment and status.st_nlink == 1:
        os.utime(path, ns=(moment, moment), follow_symlinks=False)


def _times(place: str) -> list[int]:
    """Return the time of each entry of the manifest, in nanoseconds; nothing if nobody said so."""
    try:
        with open(os.path.join(place, TIMES), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return []
    count = sum(1 for _ in data_sums.entries(place, "manifest"))
    return list(struct.unpack(">%dq" % count, data)) if len(data) == 8 * count else []
