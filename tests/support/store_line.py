"""A line to a store that notes requests, and refuses some or does something when one comes by."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum, auto

from support.object_store import Store

#: What a store says that is too busy.
BUSY = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nRetry-After: 0\r\nConnection: close\r\n\r\n"


#: Most seconds that something is held.
HELD = 120.0


class Moment(Enum):
    """How far a request has come: the store has not got it, has its beginning, or has answered."""

    ASKED = auto()
    SENT = auto()
    ANSWERED = auto()


class Line:
    """Passes connections on; each has one request, after which the store is told to close it."""

    def __init__(self, store: Store, address: str) -> None:
        host, _, port = store.endpoint.rpartition("/")[2].rpartition(":")
        self._far = (host, int(port))
        self._listener = socket.create_server((address, 0))
        self._lock = threading.Lock()
        self.endpoint = f"http://{address}:{self._listener.getsockname()[1]}"
        self.seen: list[tuple[str, str]] = []  # who asked, and the first line of the request
        self._busy: dict[tuple[bytes, ...], int] = {}
        self._victims: dict[tuple[bytes, ...], tuple[Callable[[], None], Moment]] = {}
        self._held: dict[tuple[bytes, ...], threading.Event] = {}
        self.done = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._server = threading.Thread(target=self._serve, daemon=True)
        self._server.start()

    def busy(self, times: int, *words: bytes) -> None:
        """Answer 503 to so many requests with these words in their first lines."""
        self._busy[words] = times

    def when(self, victim: Callable[[], None], *words: bytes, moment: Moment = Moment.SENT) -> None:
        """Call ``victim`` at a moment of the next request with these words, and cut it off then."""
        self.done.clear()
        self._victims[words] = victim, moment

    def hold(self, *words: bytes) -> threading.Event:
        """Let no more than the first megabytes pass of a request with these words, and of its answer,
        before the event is set."""
        event = self._held[words] = threading.Event()
        return event

    def close(self) -> None:
        """Take no more calls, cut off those that are left, and wait until all are closed."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._server.join()
        self._listener.close()
        with self._lock:
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _serve(self) -> None:
        while True:
            try:
                near, peer = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._take, args=(near, peer[0]), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _take(self, near: socket.socket, peer: str) -> None:
        with near, suppress(OSError), socket.create_connection(self._far) as far:
            with self._lock:
                self._open |= {near, far}
            try:
                self._pass(near, far, peer)
            finally:
                with self._lock:
                    self._open -= {near, far}

    def _pass(self, near: socket.socket, far: socket.socket, peer: str) -> None:
        if data := near.recv(1 << 16):
            line, _, rest = data.partition(b"\r\n")
            data = b"\r\n".join((line, b"Connection: close", rest))
            with self._lock:
                self.seen.append((peer, line.partition(b"?")[0].decode(errors="replace")))
                busy = _found(line, (words for words, left in self._busy.items() if left))
                if busy:
                    self._busy[busy] -= 1
                held = self._held.get(_found(line, self._held))
                victim, moment = self._victims.pop(_found(line, self._victims), (None, None))
            if busy:
                _drain(near, data)
                near.sendall(BUSY)
                return
            if victim and moment is not Moment.ANSWERED:
                if moment is Moment.SENT:
                    far.sendall(data)
                self._strike(victim)
                return
            back = threading.Thread(target=self._answer, args=(far, near, victim, held))
            back.start()
            with suppress(OSError):
                passed = 0
                while data:
                    far.sendall(data)
                    passed += len(data)
                    if held and passed > 1 << 21:
                        held.wait(HELD)
                    data = near.recv(1 << 16)
                far.shutdown(socket.SHUT_WR)
            back.join()

    def _answer(
        self,
        far: socket.socket,
        near: socket.socket,
        victim: Callable[[], None] | None,
        held: threading.Event | None,
    ) -> None:
        with suppress(OSError):
            passed = 0
            while data := far.recv(1 << 16):
                if victim:
                    self._strike(victim)
                    break
                near.sendall(data)
                passed += len(data)
                if held and passed > 1 << 21:
                    held.wait(HELD)
            near.shutdown(socket.SHUT_RDWR)

    def _strike(self, victim: Callable[[], None]) -> None:
        victim()
        self.done.set()


def _found(line: bytes, known: Iterable[tuple[bytes, ...]]) -> tuple[bytes, ...]:
    return next((words for words in known if all(word in line for word in words)), ())


def _drain(near: socket.socket, data: bytes) -> None:
    """Read a request to its end: who is still sending would not hear the answer."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [one.lower() for one in head.split(b"\r\n")]
    lengths = [int(one[15:]) for one in lines if one.startswith(b"content-length:")]
    length = lengths[0] if lengths else 0
    left = length - len(body)
    while left > 0 and (more := near.recv(1 << 16)):
        left -= len(more)


@contextmanager
def line_to(store: Store, address: str) -> Iterator[Line]:
    """Open a line to a store."""
    there = Line(store, address)
    try:
        yield there
    finally:
        there.close()
