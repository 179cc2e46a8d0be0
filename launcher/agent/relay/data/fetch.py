"""Reads objects of a store by URLs that the launcher has signed, in several threads.

What was cut off is continued where it stopped, if it is still the same object.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import threading
import time

from ...base import blocks, manifest
from .. import signed_urls
from ..signed_urls import Again, Refusal
from . import resuming
from . import sums as data_sums
from .sums import Arriving, size_of, sums_of, tag_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

#: Objects that are read at once, and bytes of one that is read into memory and written as it is.
THREADS, SMALL = 8, 1 << 18
#: Seconds for a store to send something.
SILENCE = 30.0
#: How often an object is asked for again that the store cannot send now, or cuts off.
TRIES = 6
#: Longest pause between two tries, in seconds, also if the store asks for more.
LONGEST_PAUSE = 20.0

#: Why an object was not read, for programs.
EXPIRED, CHANGED, LATER, REFUSED = "expired", "changed", "later", "refused"
_MORE = "it has more bytes at its source than were listed"


class Failure(Exception):
    """An object cannot be read: a code, and what the store said."""

    def __init__(self, code: str, text: str = "") -> None:
        super().__init__(text)
        self.code = code


class Fetch:
    """Objects that are read into ``folder``, until all are here or ``seconds`` are over."""

    def __init__(
        self,
        folder: str,
        seconds: float,
        follow: bool = False,
        headers: Mapping[str, str] | None = None,
        arriving: dict[str, Arriving] | None = None,
    ) -> None:
        """``follow``: the URLs are those of web servers, and have no signature. ``headers`` are those
        that the store wants. ``arriving`` has what an earlier one learned of the parts that it began."""
        self._place_of_all, self._files = folder, os.fsencode(os.path.join(folder, "files"))
        self._parts, self._sums = os.path.join(folder, resuming.PARTS), -1
        self._is_keyed = data_sums.is_keyed(folder)
        self.summed: set[bytes] = set()  # objects whose sums were noted
        self._deadline, self._follow = time.monotonic() + seconds, follow
        self._headers = headers
        self._lock = threading.Lock()
        self._left: list[tuple[manifest.Entry, str]] = []
        self._arriving = {} if arriving is None else arriving
        self.bytes = 0
        self.failed: list[list[str]] = []

    def run(self, wanted: list[tuple[manifest.Entry, str]], going_on: Callable[[], Any]) -> None:
        """Read objects; ``failed`` gets paths with a code and a text, LATER for those that are left."""
        os.makedirs(self._parts, mode=0o700, exist_ok=True)
        self._left = list(reversed(wanted))
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._sums = os.open(os.path.join(self._place_of_all, "sums"), flags, 0o600)
        try:
            signed_urls.in_threads(min(THREADS, len(wanted)), self._work, going_on)
        finally:
            os.close(self._sums)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._left:
                    return
                entry, url = self._left.pop()
            try:
                self._one(entry, url)
            except Failure as failure:
                code, text = failure.code, str(failure)
            except Exception as error:
                code, text = REFUSED, signed_urls.what_failed(error)
            else:
                continue
            with self._lock:
                self.failed.append([os.fsdecode(entry.path), code, text])

    def _one(self, entry: manifest.Entry, url: str) -> None:
        """Read one object, and put it in its place when it is whole. Raises Failure, OSError."""
        part = ""
        if entry.size > SMALL:
            name = hashlib.sha256(entry.path).hexdigest()[:32]
            part = os.path.join(self._parts, name)
            resuming.take_part(self._place_of_all, entry, name)
        pause = 0.5
        for attempt in range(TRIES):
            self._require_time()
            try:
                if part:
                    self._continue(entry, url, part)
                    self._place(entry, part)
                else:
                    self._at_once(entry, url)
                return
            except Again as again:
                if attempt == TRIES - 1:
                    raise Failure(REFUSED, "%s, %d times" % (again, TRIES))
                pause = min(max(pause * 2, again.seconds), LONGEST_PAUSE)
            self._sleep(pause * random.uniform(0.5, 1.0))

    def _at_once(self, entry: manifest.Entry, url: str) -> None:
        """Read an object into memory, and write it to its path. Raises Failure, Again, OSError."""
        arrived, found = Arriving(self._is_keyed), b""
        with self._asked(entry, url, 0) as answer:
            self._agree(entry, answer, 0)
            self._hear(arrived, answer)
            while len(found) <= entry.size:
                piece = answer.read(entry.size - len(found) + 1)
                if not piece:
                    break
                found += piece
        if len(found) > entry.size:
            raise Failure(CHANGED, _MORE)
        if len(found) < entry.size:
            raise Again("it was cut off at %d of %d bytes" % (len(found), entry.size))
        its_md5 = arrived.md5_of(entry)
        arrived.begin(bool(its_md5))
        arrived.update(found)
        known = arrived.sums(entry.size, bool(its_md5)) or arrived.sums(entry.size, False)
        sha256, md5 = known or ("", "")
        _require_right(entry, sha256, md5, its_md5, True)
        file = blocks.new_file(os.path.join(self._files, entry.path), 0o444)
        try:
            left = memoryview(found)
            while left:
                left = left[os.write(file, left) :]
        finally:
            os.close(file)
        self._note(entry, sha256)
        with self._lock:
            self.bytes += entry.size

    @contextlib.contextmanager
    def _asked(self, entry: manifest.Entry, url: str, have: int) -> Iterator[Any]:
        """Ask for an object from so many bytes on. Raises Failure, Again, OSError."""
        tag = tag_in(entry)
        request = signed_urls.request_for(url, self._follow, self._headers)
        if tag:
            request.add_header("If-Match", '"%s"' % tag)
        if have:
            request.add_header("Range", "bytes=%d-" % have)
        try:
            with signed_urls.answer(request, SILENCE, self._follow) as answer:
                yield answer
        except Refusal as refusal:
            raise failure(refusal)

    def _hear(self, arriving: Arriving, answer: Any) -> None:
        is_keyed = signed_urls.is_keyed(answer)
        if is_keyed and not self._is_keyed:
            data_sums.note_keyed(self._place_of_all)
            self._is_keyed = True
        arriving.hear(signed_urls.tag_of(answer), is_keyed, signed_urls.md5_in(answer))

    def _continue(self, entry: manifest.Entry, url: str, part: str) -> None:
        """Append what is missing of an object. Raises Failure, Again, OSError."""
        have = size_of(part)
        if have > entry.size:
            os.unlink(part)
            have = 0
        if have == entry.size:
            return
        with self._asked(entry, url, have) as answer:
            begins = self._agree(entry, answer, have)
            arriving = self._arriving.setdefault(part, Arriving(self._is_keyed))
            if not begins and not tag_in(entry):
                # It may be another object by now.
                arriving = self._arriving[part] = Arriving(self._is_keyed)
            self._hear(arriving, answer)
            self._receive(answer, part, begins, entry, arriving)
        if size_of(part) != entry.size:
            raise Again("it was cut off at %d of %d bytes" % (size_of(part), entry.size))

    def _agree(self, entry: manifest.Entry, answer: Any, have: int) -> int:
        """Return from where on the answer is; it must be of the object that was listed."""
        tag, theirs = tag_in(entry), signed_urls.tag_of(answer)
        if tag and theirs and theirs != tag:
            raise Failure(CHANGED, "it has changed at its source")
        begins = have if answer.status == 206 else 0
        length = answer.headers.get("Content-Length")
        if length is not None and begins + int(length) != entry.size:
            text = "it has %d bytes at its source instead of %d"
            raise Failure(CHANGED, text % (begins + int(length), entry.size))
        return begins

    def _receive(
        self, answer: Any, part: str, begins: int, entry: manifest.Entry, sums: Arriving
    ) -> None:
        size = entry.size
        if not begins:
            sums.begin(bool(sums.md5_of(entry)))
        elif begins != sums.size:
            sums.lose()
        with open(part, "r+b" if os.path.exists(part) else "wb") as file:
            file.truncate(begins)
            file.seek(begins)
            while True:
                piece = answer.read(min(manifest.PIECE, size - begins + 1))
                if not piece:
                    return
                begins += len(piece)
                if begins > size:
                    raise Failure(CHANGED, _MORE)
                file.write(piece)
                sums.update(piece)
                with self._lock:
                    self.bytes += len(piece)
                if begins < size and time.monotonic() > self._deadline:
                    file.flush()
                    self._require_time()

    def _place(self, entry: manifest.Entry, part: str) -> None:
        """Note the sum of an object that has arrived, and move it to its path. Raises Failure, Again,
        OSError."""
        arrived = self._arriving.pop(part, None) or Arriving(self._is_keyed)
        its_md5 = arrived.md5_of(entry)
        known = arrived.sums(entry.size, bool(its_md5))
        sha256, md5 = known or sums_of(os.fsencode(part), bool(its_md5))
        try:
            _require_right(entry, sha256, md5, its_md5, arrived.size == entry.size)
        except (Failure, Again):
            os.unlink(part)
            raise
        place = os.path.join(self._files, entry.path)
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        os.rename(os.fsencode(part), place)
        self._note(entry, sha256)

    def _note(self, entry: manifest.Entry, sha256: str) -> None:
        os.write(self._sums, b"%s%s %s\0" % (manifest.SHA256, sha256.encode(), entry.path))
        self.summed.add(entry.path)

    def _require_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise Failure(LATER)

    def _sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))


def _require_right(
    entry: manifest.Entry, sha256: str, md5: str, its_md5: str, is_all_seen: bool
) -> None:
    """Raise Failure or Again for an object that has other sums than it should have."""
    if md5 and entry.size and md5 != its_md5:
        raise _differs(REFUSED, "it arrived with another sum than the store names", is_all_seen)
    if entry.sum.startswith(manifest.SHA256) and entry.sum != manifest.SHA256 + sha256.encode():
        raise _differs(CHANGED, "it arrived with another sum than was listed", is_all_seen)


def _differs(code: str, text: str, is_all_seen: bool) -> Exception:
    """Return what another sum means for an object. Unless we have seen all of it arrive, what was here
    of it may be damaged, or the store may have said then that its tag is no sum: it is read again."""
    return Failure(code, text) if is_all_seen else Again(text)


def failure(refusal: Refusal) -> Failure:
    """Return what a refusal of the store means for an object."""
    if refusal.status in (400, 401, 403):  # which of them depends on the store
        return Failure(EXPIRED, str(refusal))
    if refusal.status == 404:
        return Failure(CHANGED, "it is gone from its source")
    if refusal.status == 412:
        return Failure(CHANGED, "it has changed at its source")
    return Failure(REFUSED, str(refusal))
