"""Writes files of a run to a store by URLs that the launcher has signed, in several threads."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
import urllib.request

from ...base import manifest
from .. import signed_urls
from ..signed_urls import Again, Refusal
from . import sums

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ...base.messages import Message

#: Parts that are written at once.
THREADS = 8
#: Seconds for a store to take or say something.
SILENCE = 60.0
TRIES = 5

CHANGED, REFUSED = "changed", "refused"


class Put:
    """Writes parts of files below ``folder``."""

    def __init__(self, folder: str, parts: list[Message]) -> None:
        self._folder, self._parts = folder, parts
        self._next, self._lock = 0, threading.Lock()
        self._sent: list[_Sent | None] = [None] * len(parts)
        #: By part: the tag that the store gave it, its sha256, a code of what went wrong, and a text.
        self.results: list[list[str]] = [["", "", REFUSED, "it was not tried"] for _ in parts]

    @property
    def sent(self) -> int:
        """The bytes that are on their way, or there."""
        return sum(one.length - one.left for one in self._sent if one)

    def run(self, going_on: Callable[[], Any]) -> None:
        """Write them all."""
        signed_urls.in_threads(min(THREADS, len(self._parts)), self._work, going_on)

    def _work(self) -> None:
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            if number >= len(self._parts):
                return
            try:
                self.results[number] = self._one(number)
            except Refusal as refusal:
                self.results[number] = ["", "", REFUSED, str(refusal)]
            except Exception as error:
                self.results[number] = ["", "", REFUSED, signed_urls.what_failed(error)]

    def _one(self, number: int) -> list[str]:
        part = self._parts[number]
        path = path_of(self._folder, part)
        text = ""
        for attempt in range(TRIES):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags), "rb", 0) as file:
                if os.fstat(file.fileno()).st_size != part["size"]:
                    return ["", "", CHANGED, "it has another size by now"]
                sent = self._sent[number] = _Sent(file, part["offset"], part["length"])
                try:
                    return self._send(part["url"], sent, part["headers"])
                except Again as again:
                    text = str(again)
            if attempt < TRIES - 1:
                time.sleep(min(0.5 * 2**attempt, 10.0) * random.uniform(0.5, 1.0))
        return ["", "", REFUSED, "%s, %d times" % (text, TRIES)]

    def _send(self, url: str, sent: _Sent, headers: dict[str, str]) -> list[str]:
        tag, md5 = send(url, iter(sent), sent.length, headers)
        if sent.left:
            return ["", "", CHANGED, "it became shorter"]
        require_same(sent.md5, md5)
        return [tag, sent.sha256.hexdigest(), "", ""]


class _Sent:
    """The bytes of a part, with their sums once they were read."""

    def __init__(self, file: Any, offset: int, length: int) -> None:
        self._file, self.length, self.left = file, length, length
        self.sha256, self.md5 = hashlib.sha256(), sums.md5_or_none()
        file.seek(offset)

    def __iter__(self) -> Iterator[bytes]:
        while self.left:
            piece = self._file.read(min(manifest.PIECE, self.left))
            if not piece:
                return
            self.left -= len(piece)
            self.sha256.update(piece)
            if self.md5:
                self.md5.update(piece)
            yield piece


def send(url: str, data: Iterator[bytes], length: int, headers: dict[str, str]) -> tuple[str, str]:
    """Write an object of so many bytes, or a part of one; return the tag that the store gives it, and
    its MD5 where the store says that. Raises Again, Refusal."""
    request = urllib.request.Request(url, data=data, method="PUT")
    request.add_header("Content-Length", str(length))
    request.add_header("Content-Type", "application/octet-stream")
    for name, value in headers.items():
        request.add_header(name, value)
    with signed_urls.answer(request, SILENCE) as answer:
        tag, keyed = signed_urls.tag_of(answer), signed_urls.is_keyed(answer)
        md5 = signed_urls.md5_in(answer) or (tag if len(tag) == 32 and not keyed else "")
        answer.read(1 << 16)
    return tag, md5


def require_same(sent: Any, md5: str) -> None:
    """Raise Again where a store has other bytes than were sent, as far as it says."""
    if sent and md5 and sent.hexdigest() != md5:
        raise Again("the store has got other bytes")


def path_of(folder: str, part: Message) -> str:
    """Return the path of an output, of a file in the run's code, or of one in a folder outside of the
    run's, which is an absolute path. Raises ValueError."""
    inside, path = part["folder"], part["path"]
    is_known = inside in ("outputs", "code") or os.path.isabs(inside)
    if not is_known or not manifest.is_inside(os.fsencode(path)):
        raise ValueError("not a file of the run")
    return os.path.join(folder, inside, path)
