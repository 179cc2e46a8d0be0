"""Compares a copy of a data set with its manifest."""

from __future__ import annotations

import os
import stat

from ...base import manifest
from ...base.manifest import Entry

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

#: Most damaged paths that are named.
NAMED = 20


def examine(
    place: str,
    base: str,
    repair: bool,
    going_on: Callable[[int], object],
    summed: Collection[bytes] = (),
) -> tuple[list[list[str]], int]:
    """Compare files with their manifest: return some that differ, with the reason, and how many.
    ``going_on`` gets the bytes that were compared so far.

    With ``repair`` these are removed, what fits loses its permissions to write, and a file that is
    the same inode as the one of ``base`` is not read again. Neither are those ``summed``, whose sums
    are in the manifest since a moment ago.
    """
    files = os.path.join(place, "files")
    bad: list[list[str]] = []
    count = 0
    known = _Known(base) if base else None
    reading = _Reading(going_on)
    for path, entry, why in _compared(place, files):
        reading.begin(entry.size if entry else 0)
        whole = os.path.join(os.fsencode(files), path)
        if entry is not None and not why:
            status = os.lstat(whole)
            why = _difference(whole, status, entry, known, path in summed, reading.go_on)
            mode = 0o555 if entry.executable else 0o444
            if not why and repair and entry.target is None and stat.S_IMODE(status.st_mode) != mode:
                os.chmod(whole, mode)
        if not why:
            continue
        count += 1
        if len(bad) < NAMED:
            bad.append([os.fsdecode(path), why])
        if repair:
            _remove_one(whole)
    return bad, count


def _difference(
    whole: bytes,
    status: os.stat_result,
    entry: Entry,
    known: _Known | None,
    is_summed: bool,
    going_on: Callable[[], object],
) -> str:
    """Return how a file or link differs from its entry; "" if it does not."""
    if entry.target is not None:
        is_same = stat.S_ISLNK(status.st_mode) and os.readlink(whole) == entry.target
        return "" if is_same else "is another link"
    if not stat.S_ISREG(status.st_mode):
        return "is no file"
    if status.st_size != entry.size:
        return "has %d bytes instead of %d" % (status.st_size, entry.size)
    if is_summed or (known and known.is_same(entry, status)):
        return ""
    found = manifest.SHA256 + digest(os.fsdecode(whole), going_on).encode()
    return "" if found == entry.sum else "has another sum"


def digest(path: str, going_on: Callable[[], object]) -> str:
    """Return the sha256 of a file; "" if there is none."""
    import hashlib

    found = hashlib.sha256()
    try:
        with open(path, "rb", 0) as file:
            while True:
                piece = file.read(manifest.PIECE)
                if not piece:
                    return found.hexdigest()
                found.update(piece)
                going_on()
    except FileNotFoundError:
        return ""


class _Reading:
    """Tells how many bytes of a set were compared."""

    def __init__(self, going_on: Callable[[int], object]) -> None:
        self._going_on = going_on
        self._done = self._size = self._pieces = 0

    def begin(self, size: int) -> None:
        """Take the next file, of so many bytes."""
        self._done += self._size
        self._size, self._pieces = size, 0
        self._going_on(self._done)

    def go_on(self) -> None:
        """Take the next piece of it."""
        self._pieces += 1
        self._going_on(self._done + min(self._size, self._pieces * manifest.PIECE))


class _Known:
    """The files of another version, by path: what is the same file need not be read again."""

    def __init__(self, files: str) -> None:
        self._files = os.fsencode(files)
        self._entries = _entries(os.path.dirname(files))
        self._next: Entry | None = next(self._entries, None)

    def is_same(self, entry: Entry, status: os.stat_result) -> bool:
        """Return whether a file is that of the other version, with the same sum. To be asked in the
        order of paths."""
        while self._next is not None and self._next.path < entry.path:
            self._next = next(self._entries, None)
        if status.st_nlink < 2 or self._next is None or self._next.path != entry.path:
            return False
        try:
            other = os.lstat(os.path.join(self._files, entry.path))
        except OSError:
            return False
        return self._next.sum == entry.sum and os.path.samestat(other, status)


def _entries(place: str) -> Iterator[Entry]:
    """Yield what is in a set: of one from a store, with the sums of what has arrived."""
    contents = os.path.join(place, "contents")
    path = contents if os.path.exists(contents) else os.path.join(place, "manifest")
    try:
        with open(path, "rb") as file:
            yield from manifest.entries(file)
    except FileNotFoundError:
        return


def _compared(place: str, files: str) -> Iterator[tuple[bytes, Entry | None, str]]:
    """Yield every path of a manifest or a folder, with its entry, and what is wrong with it: "" where
    it is in both."""
    there = manifest.walk(os.fsencode(files))
    found = next(there, None)
    for entry in _entries(place):
        while found is not None and found[0] < entry.path:
            yield found[0], None, "is not in the set"
            found = next(there, None)
        is_there = found is not None and found[0] == entry.path
        yield entry.path, entry, "" if is_there else "is missing"
        if is_there:
            found = next(there, None)
    while found is not None:
        yield found[0], None, "is not in the set"
        found = next(there, None)


def _remove_one(path: bytes) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
