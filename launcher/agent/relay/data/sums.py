"""What the sums are of objects of a store that have arrived, and which are missing."""

from __future__ import annotations

import hashlib
import os
import re

from ...base import manifest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any, Tuple

MD5 = re.compile(r"[0-9a-f]{32}\Z")
#: What says that the tags of a copy's objects are no sums, although they look like MD5s.
KEYED = "keyed"


def noted(place: str) -> dict[bytes, bytes]:
    """Return the sums that were noted when objects arrived, by path."""
    try:
        with open(os.path.join(place, "sums"), "rb") as file:
            lines = file.read().split(b"\0")[:-1]
    except FileNotFoundError:
        return {}
    return {path: known for known, _, path in (line.partition(b" ") for line in lines)}


def is_keyed(place: str) -> bool:
    """Return whether a store has said of a copy that its tags are no sums."""
    return os.path.exists(os.path.join(place, KEYED))


def note_keyed(place: str) -> None:
    """Keep that for whoever continues the copy."""
    if not is_keyed(place):
        with open(os.path.join(place, KEYED), "wb"):
            pass


def missing(place: str, base: str) -> Iterator[manifest.Entry]:
    """Yield the objects that a copy does not have yet. What an earlier version, whose files are in
    ``base``, has with the same tag is taken from there."""
    known, files = noted(place), os.fsencode(os.path.join(place, "files"))
    earlier = _Earlier(base) if base else None
    with open(os.path.join(place, "sums"), "ab", 0) as sums:
        for entry in entries(place, "manifest"):
            whole = os.path.join(files, entry.path)
            if entry.target is not None:
                continue
            is_here = entry.path in known and os.path.lexists(whole)
            if is_here and size_of(os.fsdecode(whole)) == entry.size:
                continue
            taken = earlier.take(entry, whole) if earlier else b""
            if taken:
                sums.write(b"%s %s\0" % (taken, entry.path))
            else:
                yield entry


def shared(place: str, base: str, going_on: Callable[[], object]) -> int:
    """Return the bytes of a copy that are in another version as well, whose files are in ``base``."""
    total = 0
    earlier = entries(os.path.dirname(base), "manifest")
    known = next(earlier, None)
    for entry in entries(place, "manifest"):
        while known is not None and known.path < entry.path:
            known = next(earlier, None)
        if known == entry and entry.target is None:
            total += entry.size
        going_on()
    return total


class _Earlier:
    """The objects of another version, to be asked in the order of paths."""

    def __init__(self, files: str) -> None:
        self._files, place = os.fsencode(files), os.path.dirname(files)
        names = ("manifest", "contents")  # of the same paths in the same order
        self._pairs: Iterator[Tuple[manifest.Entry, ...]]
        self._pairs = zip(*(entries(place, name) for name in names))  # noqa: B905 - Python 3.8
        self._next = next(self._pairs, None)

    def take(self, entry: manifest.Entry, whole: bytes) -> bytes:
        """Link the file of an object that has not changed; return its sum, or nothing."""
        while self._next is not None and self._next[0].path < entry.path:
            self._next = next(self._pairs, None)
        if self._next is None or self._next[0] != entry:
            return b""
        try:
            os.makedirs(os.path.dirname(whole), mode=0o700, exist_ok=True)
            if os.path.lexists(whole):
                os.unlink(whole)
            os.link(os.path.join(self._files, entry.path), whole)
        except OSError:
            return b""
        found: bytes = self._next[1].sum
        return found


def entries(place: str, name: str) -> Iterator[manifest.Entry]:
    """Yield the entries of a copy's manifest or contents; nothing if it has none."""
    try:
        with open(os.path.join(place, name), "rb") as file:
            yield from manifest.entries(file)
    except FileNotFoundError:
        return


def tag_in(entry: manifest.Entry) -> str:
    """Return the tag of an object in a manifest; "" without one."""
    return entry.sum[len(manifest.ETAG) :].decode() if entry.sum.startswith(manifest.ETAG) else ""


def sums_of(
    path: bytes, wants_md5: bool, going_on: Callable[[], object] = lambda: None
) -> tuple[str, str]:
    """Return the sha256 of a file, and its md5 where that is wanted and can be had, else ""."""
    sha256, md5 = hashlib.sha256(), md5_or_none() if wants_md5 else None
    with open(path, "rb", 0) as file:
        while True:
            piece = file.read(manifest.PIECE)
            if not piece:
                return sha256.hexdigest(), md5.hexdigest() if md5 else ""
            sha256.update(piece)
            if md5:
                md5.update(piece)
            going_on()


class Arriving:
    """What is known of an object that is being read, over all requests for it: what its store says of
    its sum, and the sums of its first ``size`` bytes, from its start on."""

    def __init__(self, is_keyed: bool = False) -> None:
        self._sha256: Any = None
        self._md5: Any = None
        self._tag = self._named = ""
        self._is_keyed = is_keyed
        self.size = -1  # nothing is known of them

    def hear(self, tag: str, is_keyed: bool, md5: str) -> None:
        """Take what an answer says: the object's tag, that this is no sum, and an MD5 that it names
        besides. It may say less than one before."""
        if tag and self._tag and tag != self._tag:
            self.lose()  # it was another object
        self._tag = tag or self._tag
        self._is_keyed = self._is_keyed or is_keyed
        self._named = md5 or self._named

    def md5_of(self, entry: manifest.Entry) -> str:
        """Return the MD5 that the object has by its store; "" where that says none."""
        tag = tag_in(entry)
        return tag if MD5.match(tag) and not self._is_keyed else self._named

    def begin(self, wants_md5: bool) -> None:
        """Begin at the start of the object."""
        self._sha256, self._md5 = hashlib.sha256(), md5_or_none() if wants_md5 else None
        self.size = 0

    def update(self, data: bytes) -> None:
        """Take the bytes that follow, if those before are known."""
        if self.size < 0:
            return
        self._sha256.update(data)
        if self._md5:
            self._md5.update(data)
        self.size += len(data)

    def lose(self) -> None:
        """Know nothing of them any more."""
        self.size = -1

    def sums(self, size: int, wants_md5: bool) -> tuple[str, str] | None:
        """Return the sha256 of an object of that size, and its md5 if that is wanted, as
        :func:`sums_of` does; None if they are not known."""
        if self.size != size or (wants_md5 and not self._md5):
            return None
        return self._sha256.hexdigest(), self._md5.hexdigest() if wants_md5 else ""


def prove(
    place: str,
    keyed: bool,
    going_on: Callable[[], object],
    taken: Mapping[bytes, Tuple[str, str]] = {},
) -> tuple[list[list[str]], set[bytes]]:
    """Note the sums of all objects that have arrived; return those whose tag says that they are not
    what the store has, which are removed, and the paths of those that were summed now. ``keyed``: tags
    are no sums. ``taken`` are sums that were taken while they arrived."""
    known, bad, summed = noted(place), [], set()
    with open(os.path.join(place, "sums"), "ab", 0) as sums:
        for entry in entries(place, "manifest"):
            if entry.path in known or entry.target is not None:
                continue
            path, tag = os.path.join(os.fsencode(place), b"files", entry.path), tag_in(entry)
            is_sum = MD5.match(tag) and entry.size and not keyed
            sha256, md5 = taken.get(entry.path) or sums_of(path, bool(is_sum), going_on)
            if is_sum and md5 and md5 != tag and entry.path in taken:
                sha256, md5 = sums_of(path, True, going_on)  # a part of it may have come again
            if is_sum and md5 and md5 != tag:
                os.unlink(path)
                text = "arrived with another sum than the store names"
                bad.append([os.fsdecode(entry.path), text])
                continue
            found = manifest.SHA256 + sha256.encode()
            sums.write(b"%s %s\0" % (found, entry.path))
            summed.add(entry.path)
    return bad, summed


def right(place: str, taken: Mapping[bytes, Tuple[str, str]]) -> set[bytes]:
    """Return the paths of those files whose sums, as they were ``taken``, are those of the manifest."""
    return {
        entry.path
        for entry in entries(place, "manifest")
        if entry.path in taken and entry.sum == manifest.SHA256 + taken[entry.path][0].encode()
    }


def is_of_store(place: str) -> bool:
    """Return whether a copy is one of objects: its manifest has tags of a store."""
    first = next(entries(place, "manifest"), None)
    return first is not None and first.sum.startswith(manifest.ETAG)


def write_contents(place: str) -> None:
    """Write what the manifest says with the sums that were noted, if its own are tags of a store."""
    if not is_of_store(place):
        return
    known = noted(place)
    with open(os.path.join(place, "contents"), "wb") as file:
        file.write(manifest.HEADER)
        for entry in entries(place, "manifest"):
            file.write(manifest.encode(entry._replace(sum=known.get(entry.path, entry.sum))))


def note_contents(place: str) -> None:
    """Do the opposite, when a version becomes a copy that is not complete."""
    if not os.path.exists(os.path.join(place, "contents")):
        return
    with open(os.path.join(place, "sums"), "wb") as file:
        for entry in entries(place, "contents"):
            file.write(b"%s %s\0" % (entry.sum, entry.path))
    os.unlink(os.path.join(place, "contents"))


def md5_or_none() -> Any:
    """Return a new MD5, or None on a machine where it is forbidden."""
    try:
        return hashlib.md5()
    except ValueError:
        return None


def size_of(path: str) -> int:
    """Return the size of a file; 0 if there is none."""
    try:
        return os.path.getsize(path)
    except FileNotFoundError:
        return 0
