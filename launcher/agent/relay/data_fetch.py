"""Reads objects of a store by URLs that the launcher has signed, in several threads.

What was cut off is continued where it stopped, if it is still the same object.
"""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time

from ..base import manifest
from . import signed_urls
from .data_sums import Arriving, size_of, sums_of, tag_in
from .signed_urls import Again, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

#: Objects that are read at once.
THREADS = 8
#: Seconds for a store to send something.
SILENCE = 30.0
#: How often an object is asked for again that the store cannot send now, or cuts off.
TRIES = 6
#: Longest pause between two tries, in seconds, also if the store asks for more.
LONGEST_PAUSE = 20.0

#: Why an object was not read, for programs.
EXPIRED, CHANGED, LATER, REFUSED = "expired", "changed", "later", "refused"


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
        self._folder, self._parts = os.path.join(folder, "files"), os.path.join(folder, "parts")
        self._sums = os.path.join(folder, "sums")
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
        signed_urls.in_threads(min(THREADS, len(wanted)), self._work, going_on)

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
        name = hashlib.sha256(entry.path).hexdigest()[:32]
        part = os.path.join(self._parts, name)
        pause = 0.5
        for attempt in range(TRIES):
            self._require_time()
            try:
                self._continue(entry, url, part)
                self._place(entry, part)
                return
            except Again as again:
                if attempt == TRIES - 1:
                    raise Failure(REFUSED, "%s, %d times" % (again, TRIES))
                pause = min(max(pause * 2, again.seconds), LONGEST_PAUSE)
            self._sleep(pause * random.uniform(0.5, 1.0))

    def _continue(self, entry: manifest.Entry, url: str, part: str) -> None:
        """Append what is missing of an object. Raises Failure, Again, OSError."""
        have = size_of(part)
        if have > entry.size:
            os.unlink(part)
            have = 0
        if have == entry.size and os.path.exists(part):
            return
        tag = tag_in(entry)
        request = signed_urls.request_for(url, self._follow, self._headers)
        if tag:
            request.add_header("If-Match", '"%s"' % tag)
        if have:
            request.add_header("Range", "bytes=%d-" % have)
        try:
            with signed_urls.answer(request, SILENCE, self._follow) as answer:
                begins = self._agree(entry, tag, answer, have)
                arriving = self._arriving.setdefault(part, Arriving())
                if not begins and not tag:
                    arriving = self._arriving[part] = Arriving()  # it may be another object by now
                about = (signed_urls.is_keyed(answer), signed_urls.md5_in(answer))
                arriving.hear(signed_urls.tag_of(answer), *about)
                self._receive(answer, part, begins, entry, arriving)
        except Refusal as refusal:
            raise failure(refusal)
        if size_of(part) != entry.size:
            raise Again("it was cut off at %d of %d bytes" % (size_of(part), entry.size))

    def _agree(self, entry: manifest.Entry, tag: str, answer: Any, have: int) -> int:
        """Return from where on the answer is; it must be of the object that was listed."""
        theirs = signed_urls.tag_of(answer)
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
                    raise Failure(CHANGED, "it has more bytes at its source than were listed")
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
        arrived = self._arriving.pop(part, None) or Arriving()
        its_md5 = arrived.md5_of(entry)
        with open(part, "ab"):
            pass  # an empty object
        known = arrived.sums(entry.size, bool(its_md5))
        sha256, md5 = known or sums_of(os.fsencode(part), bool(its_md5))
        if md5 and entry.size and md5 != its_md5:
            os.unlink(part)
            text = "it arrived with another sum than the store names"
            raise _differs(REFUSED, text, arrived.size == entry.size)
        if entry.sum.startswith(manifest.SHA256) and entry.sum != manifest.SHA256 + sha256.encode():
            os.unlink(part)
            text = "it arrived with another sum than was listed"
            raise _differs(CHANGED, text, arrived.size == entry.size)
        place = os.path.join(os.fsencode(self._folder), entry.path)
        os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
        os.rename(os.fsencode(part), place)
        line = b"%s%s %s\0" % (manifest.SHA256, sha256.encode(), entry.path)
        with self._lock, open(self._sums, "ab", 0) as file:
            file.write(line)

    def _require_time(self) -> None:
        if time.monotonic() > self._deadline:
            raise Failure(LATER)

    def _sleep(self, seconds: float) -> None:
        time.sleep(max(0.0, min(seconds, self._deadline - time.monotonic())))


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
