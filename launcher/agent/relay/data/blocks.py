"""The blocks of a data set on this host: of a version that is here, or of a copy that is being made.

A copy notes each block that has arrived, with its sum, in ``blocks-LENGTH-2``: 4 bytes of its number and
32 of its sum. So an interrupted copy goes on with what it has, and never with what another release
has cut into blocks of another length. Those from before a reboot are in ``doubted-LENGTH-2``: a power
cut may have taken the blocks, and left the notes.
"""

from __future__ import annotations

import os
import struct
import sys
import threading
from array import array

from ...base import blocks
from . import sums as data_sums

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from typing import Dict, List, Tuple

    from ...base import manifest
    from ...base.blocks import Piece

    #: By path: the sha256 and, where the store's tag may be one, the md5 or "".
    Sums = Dict[bytes, Tuple[str, str]]

#: The notes of a copy: how the names of what has arrived begin, and when its files were changed at their
#: source.
NOTES, DOUBTED, TIMES = "blocks-", "doubted-", "times"
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
        self.have = self.loaded = 0  # bitmaps: by now, and what was here at first
        self.files: Sums = {}  # of the files that came whole, in one block
        self._sums: dict[int, bytes] = {}
        self._written: set[int] = set()  # by a thread, at this moment
        self._taken: Container[bytes] = ()  # files that are here as another version has them
        self._times: array[int] | None = None

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
        self.have = self.loaded = (1 << self.count) - 1

    def load(self, going_on: Callable[[], object]) -> None:
        """Find out which blocks of a copy are here: those that were noted, and those whose files another
        version had. Their files must be there with their sizes; after a reboot, blocks with their
        sums."""
        noted, doubted = self._noted(NOTES), self._noted(DOUBTED)
        self._taken = taken = self._files_taken()
        self._times = _times(self.place)
        for number in range(self.count) if noted or doubted or taken else ():
            pieces = list(self.cut.pieces(number))
            if number in noted:
                is_here = self._are_there(pieces)
            elif number in doubted:
                is_here = self._has_sum(number, pieces, doubted[number])
                noted[number] = doubted[number]
            else:
                is_here = all(piece.entry.path in taken for piece in pieces)
            if is_here:
                self.have |= 1 << number
            else:
                noted.pop(number, None)
            going_on()
        self._sums, self.loaded = noted, self.have
        with open(self._file_of(NOTES) + ".new", "wb") as file:
            for number, checksum in noted.items():
                file.write(_NOTE.pack(number, checksum))
        os.replace(self._file_of(NOTES) + ".new", self._file_of(NOTES))
        if doubted:
            os.unlink(self._file_of(DOUBTED))

    def _file_of(self, notes: str) -> str:
        return os.path.join(self._places[0], "%s%d-2" % (notes, self.cut.length))

    def _noted(self, notes: str) -> dict[int, bytes]:
        try:
            with open(self._file_of(notes), "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return {}
        whole = len(data) // _NOTE.size * _NOTE.size
        found = dict(_NOTE.iter_unpack(data[:whole]))
        return {number: checksum for number, checksum in found.items() if number < self.count}

    def _files_taken(self) -> Container[bytes]:
        """Return the paths of the files whose sums were noted, and that are here."""
        noted = data_sums.noted(self.place)
        entries = self.cut.entries() if noted else iter(())
        return {one.path for one in entries if one.path in noted and self._is_there(one)}

    def _is_there(self, entry: manifest.Entry) -> bool:
        try:
            status = os.lstat(os.path.join(os.fsencode(self.place), b"files", entry.path))
        except OSError:
            return False
        return status.st_size == entry.size

    def _are_there(self, pieces: List[Piece]) -> bool:
        return all(self._is_there(piece.entry) for piece in pieces)

    def _has_sum(self, number: int, pieces: List[Piece], checksum: bytes) -> bool:
        try:
            data = blocks.read(pieces, self.length_of(number), os.path.join(self.place, "files"))
        except OSError:
            return False
        return self._are_there(pieces) and blocks.summed(pieces, data).block == checksum

    def replace(self, other: Copy) -> None:
        """Be as another look at the same copy has found it."""
        with self._lock:
            self.have, self.loaded, self._sums = other.have, other.loaded, other._sums
            self._taken, self.files = other._taken, {}
            self._lock.notify_all()

    def read(self, number: int) -> Tuple[bytearray, bytes]:
        """Return a block and its sum: the one that it came with. Raises OSError."""
        pieces = list(self.cut.pieces(number))
        for place in self._places:
            try:
                data = blocks.read(pieces, self.length_of(number), os.path.join(place, "files"))
                break
            except FileNotFoundError:
                if place == self._places[-1]:
                    raise
        known = self._sums.get(number)
        if known is None:
            known = self._sums[number] = blocks.summed(pieces, data).block
        return data, known

    def write(self, number: int, data: bytes | bytearray, checksum: bytes = b"") -> None:
        """Write a block that has a sum, and note it. One that is here, or that another thread writes,
        stays as it is: its file may be summed by now. Raises Damaged, OSError."""
        with self._lock:
            if self.have >> number & 1 or number in self._written:
                return
            self._written.add(number)
        try:
            pieces = list(self.cut.pieces(number))
            found = blocks.summed(pieces, data)
            if (checksum and found.block != checksum) or blocks.damaged(pieces, found.files):
                raise blocks.Damaged
            files = self._with_md5(pieces, data, found.files)
            folder = os.path.join(self.place, "files")
            blocks.write(pieces, folder, data, self._taken, self._times)
            with self._lock:
                with open(self._file_of(NOTES), "ab", 0) as file:
                    file.write(_NOTE.pack(number, found.block))
                self.files.update(files)
                self._sums[number] = found.block
                self.have |= 1 << number
                self._lock.notify_all()
        finally:
            with self._lock:
                self._written.discard(number)

    def _with_md5(
        self, pieces: List[Piece], data: bytes | bytearray, files: Dict[bytes, str]
    ) -> Sums:
        """Return the sums of the files that are whole in a block, except of those that were here."""
        found: Sums = {}
        at, view = 0, memoryview(data)
        for piece in pieces:
            path = piece.entry.path
            if path in files and path not in self._taken:
                wants_md5 = data_sums.MD5.match(data_sums.tag_in(piece.entry))
                md5 = data_sums.md5_or_none() if wants_md5 else None
                if md5:
                    md5.update(view[at : at + piece.length])
                found[path] = files[path], md5.hexdigest() if md5 else ""
            at += piece.length
        return found

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


def complete(place: str, going_on: Callable[[], object], finished: Container[bytes] = ()) -> None:
    """Make what no block has: empty files, links, and the times of files that are not ``finished``.
    Raises OSError."""
    times = _times(place)
    for number, entry in enumerate(data_sums.entries(place, "manifest")):
        going_on()
        if entry.path in finished:
            continue
        path = os.path.join(os.fsencode(place), b"files", entry.path)
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


def _times(place: str) -> array[int] | None:
    """Return the time of each entry of the manifest, in nanoseconds; None if nobody said so."""
    try:
        with open(os.path.join(place, TIMES), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return None
    count = sum(1 for _ in data_sums.entries(place, "manifest"))
    if len(data) != 8 * count:
        return None
    found = array("q", data)
    if sys.byteorder == "little":
        found.byteswap()
    return found


def doubt(place: str) -> None:
    """Believe no note of a copy any more until its block was read again. Raises OSError."""
    for name in os.listdir(place):
        if name.startswith(NOTES) and not name.endswith(".new"):
            old = os.path.join(place, name)
            with open(old, "rb") as noted:
                data = noted.read()
            with open(os.path.join(place, DOUBTED + name[len(NOTES) :]), "ab") as file:
                file.write(data[: len(data) // _NOTE.size * _NOTE.size])
                file.flush()
                os.fsync(file.fileno())
            os.unlink(old)
