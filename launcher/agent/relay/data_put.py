"""Writes files of a run to a store by URLs that the launcher has signed, in several threads.

A URL is a secret: it stays in memory, and no message, log or exception text of ours contains one.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import threading
import time
import urllib.error
import urllib.request

from ..base import manifest
from .data_fetch import AGAIN, Here, md5_or_none

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from ..base.messages import Message

#: Parts that are written at once.
THREADS = 4
#: Seconds for a store to take or say something.
SILENCE = 60.0
TRIES = 5

CHANGED, REFUSED = "changed", "refused"


class Put:
    """Writes parts of files below ``folder``."""

    def __init__(self, folder: str, parts: list[Message]) -> None:
        self._folder, self._parts = folder, parts
        self._next, self._lock = 0, threading.Lock()
        #: By part: the tag that the store gave it, its sha256, a code of what went wrong, and a text.
        self.results: list[list[str]] = [["", "", REFUSED, "it was not tried"] for _ in parts]
        self._opener = urllib.request.build_opener(Here)

    def run(self, going_on: Callable[[], Any]) -> None:
        """Write them all."""
        threads = [threading.Thread(target=self._work) for _ in self._parts[:THREADS]]
        for thread in threads:
            thread.daemon = True
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(1.0)
                going_on()

    def _work(self) -> None:
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            if number >= len(self._parts):
                return
            try:
                self.results[number] = self._one(self._parts[number])
            except OSError as error:
                text = str(error.strerror or type(error).__name__)
                self.results[number] = ["", "", REFUSED, text]
            except Exception as error:  # its text might have the URL
                self.results[number] = ["", "", REFUSED, type(error).__name__]

    def _one(self, part: Message) -> list[str]:
        path = path_of(self._folder, part)
        text = ""
        for attempt in range(TRIES):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with os.fdopen(os.open(path, flags), "rb", 0) as file:
                if os.fstat(file.fileno()).st_size != part["size"]:
                    return ["", "", CHANGED, "it has another size by now"]
                sent = _Sent(file, part["offset"], part["length"])
                try:
                    return self._send(part["url"], sent)
                except _Again as again:
                    text = str(again)
            if attempt < TRIES - 1:
                time.sleep(min(0.5 * 2**attempt, 10.0) * random.uniform(0.5, 1.0))
        return ["", "", REFUSED, "%s, %d times" % (text, TRIES)]

    def _send(self, url: str, sent: _Sent) -> list[str]:
        request = urllib.request.Request(url, data=iter(sent), method="PUT")
        request.add_header("Content-Length", str(sent.length))
        request.add_header("Content-Type", "application/octet-stream")
        try:
            with self._opener.open(request, timeout=SILENCE) as answer:
                tag = (answer.headers.get("ETag") or "").strip('"')
                keyed = (answer.headers.get("x-amz-server-side-encryption") or "AES256") != "AES256"
                answer.read(1 << 16)
        except urllib.error.HTTPError as error:
            with error:
                if error.code in AGAIN:
                    raise _Again("the store answers %d" % error.code)
                return ["", "", REFUSED, "the store answers %d" % error.code]
        except http.client.HTTPException as error:
            raise _Again(type(error).__name__)
        except OSError as error:
            inner = getattr(error, "reason", error)
            raise _Again(str(getattr(inner, "strerror", None) or type(inner).__name__))
        if sent.left:
            return ["", "", CHANGED, "it became shorter"]
        if sent.md5 and len(tag) == 32 and not keyed and sent.md5.hexdigest() != tag:
            raise _Again("the store has got other bytes")
        return [tag, sent.sha256.hexdigest(), "", ""]


class _Again(Exception):
    """The store cannot take a part now."""


class _Sent:
    """The bytes of a part, with their sums once they were read."""

    def __init__(self, file: Any, offset: int, length: int) -> None:
        self._file, self.length, self.left = file, length, length
        self.sha256, self.md5 = hashlib.sha256(), md5_or_none()
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


def path_of(folder: str, part: Message) -> str:
    """Return the path of an output, or of a file in the run's code. Raises ValueError."""
    kind, path = part["folder"], part["path"]
    if kind not in ("outputs", "code") or not manifest.is_inside(os.fsencode(path)):
        raise ValueError("not a file of the run")
    return os.path.join(folder, kind, path)
