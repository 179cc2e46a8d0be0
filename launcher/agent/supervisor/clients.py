"""Those on this host who talk to a supervisor through its socket: relays, and shims of ranks."""

from __future__ import annotations

import os
import time

from ..base import protocol
from ..base.lean import Socket, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Message


class Clients:
    """Listens in the current folder, which is the run's."""

    def __init__(self) -> None:
        try:
            os.unlink("sock")
        except FileNotFoundError:
            pass
        self._listener = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind("sock")
        self._listener.listen(64)
        self._open: dict[Socket, protocol.Decoder] = {}
        self._subscribers: set[Socket] = set()
        self._alone_since = time.monotonic()

    @property
    def sockets(self) -> list[Socket]:
        """What to wait for."""
        return [self._listener, *self._open]

    @property
    def alone_since(self) -> float | None:
        """When the last one left, by ``time.monotonic``; None while one is here."""
        return None if self._open else self._alone_since

    def hear(self, ready: Socket) -> list[tuple[Socket, Message]]:
        """What came through one of the sockets: pairs of a client and its message."""
        if ready is self._listener:
            self._open[self._listener.accept()[0]] = protocol.Decoder(forgiving=True)
            return []
        try:
            data = ready.recv(1 << 16)
        except OSError:
            data = b""
        if data:
            return [(ready, message) for message, _ in self._open[ready].feed(data)]
        self.hang_up(ready)
        return []

    def hang_up(self, client: Socket) -> None:
        """No longer listens to one, because it is gone or makes no sense."""
        if self._open.pop(client, None) is not None:
            self._subscribers.discard(client)
            self._alone_since = time.monotonic()
            client.close()

    def send(self, client: Socket, message: Message) -> None:
        """One that is gone is noticed by the next read from it."""
        self._send(client, protocol.encode(message))

    def subscribe(self, client: Socket) -> None:
        """Wants to know of every record of the journal."""
        self._subscribers.add(client)

    def wake(self) -> None:
        """Tells subscribers that there is something new in the journal."""
        for client in self._subscribers:
            self._send(client, b"\n")

    def _send(self, client: Socket, data: bytes) -> None:
        try:
            client.sendall(data)
        except OSError:
            pass

    def close(self) -> None:
        for client in self.sockets:
            client.close()
