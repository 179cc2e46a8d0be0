"""Reads blocks of a data set from a store, in several threads, beside everything else that a relay does.

A block that was read is noted with a sum of our own. What an object is worth as a whole, its tag says
when all its blocks are here.
"""

from __future__ import annotations

import os
import random
import threading
import time

from ...base import manifest
from .. import signed_urls
from ..signed_urls import Again, Refusal
from . import fetch
from .fetch import CHANGED, REFUSED, Failure
from .sums import tag_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import List, Tuple

    from ...base.blocks import Piece
    from .blocks import Copy

#: Seconds for the store to send something.
SILENCE = 30.0
#: How often a piece is asked for again that the store cannot send now, or cuts off.
TRIES = 6
LONGEST_PAUSE = 20.0


class _Wanted:
    """A block that is being read: its bytes, and how many of its pieces are left."""

    def __init__(self, number: int, size: int, left: int) -> None:
        self.number, self.data, self.left = number, bytearray(size), left
        self.failed = False


class Pull:
    """Blocks that are read from a store into a copy."""

    def __init__(self, copy: Copy, arrived: Callable[[], None]) -> None:
        self._copy, self._arrived = copy, arrived
        self._lock = threading.Condition()
        self._left: List[Tuple[_Wanted, Piece, int, str]] = []
        self._threads = 0
        self._is_over = self._follow = False
        self._headers: Mapping[str, str] = {}
        self.is_any_keyed = False  # an object is one whose tag is no sum
        self.bytes = 0  # that came from the store
        self.failed: List[List[object]] = []  # number of the block, path, code, text
        self.trouble: OSError | None = None

    def want(
        self,
        number: int,
        urls: list[str],
        follow: bool = False,
        headers: Mapping[str, str] | None = None,
        readers: int = 1,
    ) -> None:
        """Read a block, each of its pieces by one of these URLs. Returns at once. ``follow``: they are
        those of web servers, and have no signature. ``headers`` are those that the store wants. So many
        ``readers`` read pieces at once."""
        pieces = list(self._copy.cut.pieces(number))
        if len(pieces) != len(urls):
            raise ValueError("not as many URLs as the block has pieces")
        wanted, at = _Wanted(number, self._copy.length_of(number), len(pieces)), 0
        with self._lock:
            self._follow, self._headers = follow, headers or {}
            for piece, url in zip(pieces, urls):  # noqa: B905 - Python 3.8
                self._left.append((wanted, piece, at, url))
                at += piece.length
            while self._threads < min(readers, len(self._left)):
                thread = threading.Thread(target=self._work)
                thread.daemon = True
                thread.start()
                self._threads += 1
            self._lock.notify_all()

    def end(self) -> None:
        """Read nothing more."""
        with self._lock:
            self._is_over = True
            self._lock.notify_all()

    def taken_failures(self) -> List[List[object]]:
        """Return the blocks that could not be read, each once."""
        with self._lock:
            found, self.failed = self.failed, []
            return found

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._left and not self._is_over:
                    self._lock.wait()
                if self._is_over:
                    return
                wanted, piece, at, url = self._left.pop(0)
            if wanted.failed:
                continue
            try:
                self._read(wanted, piece, at, url)
                code, text = "", ""
            except Failure as failure:
                code, text = failure.code, str(failure)
            except OSError as error:
                self.trouble = error
                return
            except Exception as error:
                code, text = REFUSED, signed_urls.what_failed(error)
            with self._lock:
                if code and not wanted.failed:
                    wanted.failed = True
                    self.failed.append([wanted.number, os.fsdecode(piece.entry.path), code, text])
                wanted.left -= 1
            if not wanted.left and not wanted.failed:
                self._write(wanted)

    def _write(self, wanted: _Wanted) -> None:
        try:
            self._copy.write(wanted.number, wanted.data)
        except OSError as error:
            self.trouble = error
        self._arrived()

    def _read(self, wanted: _Wanted, piece: Piece, at: int, url: str) -> None:
        """Read a piece. Raises Failure, OSError."""
        have, pause = 0, 0.5
        for attempt in range(TRIES):
            try:
                have = self._continue(wanted, piece, at, url, have)
                if have == piece.length:
                    return
                raise Again("it was cut off at %d of %d bytes" % (have, piece.length))
            except Again as again:
                have = getattr(again, "have", have)
                if attempt == TRIES - 1:
                    raise Failure(REFUSED, "%s, %d times" % (again, TRIES))
                pause = min(max(pause * 2, again.seconds), LONGEST_PAUSE)
            except Refusal as refusal:
                raise fetch.failure(refusal)
            time.sleep(pause * random.uniform(0.5, 1.0))

    def _continue(self, wanted: _Wanted, piece: Piece, at: int, url: str, have: int) -> int:
        request = signed_urls.request_for(url, self._follow, self._headers)
        tag = tag_in(piece.entry)
        if tag:
            request.add_header("If-Match", '"%s"' % tag)
        first, last = piece.offset + have, piece.offset + piece.length - 1
        is_part = first > 0 or last + 1 < piece.entry.size
        if is_part:
            request.add_header("Range", "bytes=%d-%d" % (first, last))
        try:
            with signed_urls.answer(request, SILENCE, self._follow) as answer:
                self._require_same(piece, tag, answer)
                if answer.status != 206:
                    _skip(answer, first)
                while have < piece.length:
                    data = answer.read(min(manifest.PIECE, piece.length - have))
                    if not data:
                        break
                    wanted.data[at + have : at + have + len(data)] = data
                    have += len(data)
                    with self._lock:
                        self.bytes += len(data)
        except Again as again:
            again.have = have  # type: ignore[attr-defined]
            raise
        return have

    def _require_same(self, piece: Piece, tag: str, answer: object) -> None:
        """Raise Failure if the answer is not of the object that was listed."""
        theirs = signed_urls.tag_of(answer)
        if tag and theirs and theirs != tag:
            raise Failure(CHANGED, "it has changed at its source")
        if signed_urls.is_keyed(answer):
            self.is_any_keyed = True
        total = _total(answer)
        if total is not None and total != piece.entry.size:
            text = "it has %d bytes at its source instead of %d"
            raise Failure(CHANGED, text % (total, piece.entry.size))


def _total(answer: object) -> int | None:
    """Return the size of the whole object in an answer; None where it does not say so."""
    headers = answer.headers  # type: ignore[attr-defined]
    if answer.status == 206:  # type: ignore[attr-defined]
        total = str(headers.get("Content-Range") or "").rpartition("/")[2]
        return int(total) if total.isascii() and total.isdigit() else None
    length = headers.get("Content-Length")
    return int(length) if length is not None else None


def _skip(answer: object, size: int) -> None:
    """Pass over the start of an object, from a store that knows no ranges."""
    while size:
        data = answer.read(min(manifest.PIECE, size))  # type: ignore[attr-defined]
        if not data:
            raise Again("it was cut off")
        size -= len(data)
