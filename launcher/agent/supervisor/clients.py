"""The clients of a supervisor's socket: relays and rank shims on this host."""

from __future__ import annotations

import os
import time

from ..base import protocol
from ..base.lean import Socket, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Message


class Clients:
    """Listens in the working directory, which is the run's folder."""

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
        """The sockets to read from."""
        return [self._listener, *self._open]

    @property
    def alone_since(self) -> float | None:
        """When the last client disconnected, by ``time.monotonic``; None while one is connected."""
        return None if self._open else self._alone_since

    def hear(self, ready: Socket) -> list[tuple[Socket, Message]]:
        """Read from one of the sockets; return pairs of a client and its message."""
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
        """Disconnect a client that is gone or sends nonsense."""
        if self._open.pop(client, None) is not None:
            self._subscribers.discard(client)
            self._alone_since = time.monotonic()
            client.close()

    def send(self, client: Socket, message: Message) -> None:
        """Send a message. If the client is gone, the next read from it notices."""
        self._send(client, protocol.encode(message))

    def subscribe(self, client: Socket) -> None:
        """Wake this client at every record of the journal."""
        self._subscribers.add(client)

    def wake(self) -> None:
        """Wake subscribers: the journal has a new record."""
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
