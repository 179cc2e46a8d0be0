"""The clients of a supervisor's socket: relays and rank shims on this host."""

from __future__ import annotations

import os
import sys
import time

from ..base import protocol
from ..base.lean import Socket, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Message


#: Most bytes of answers that a client leaves unread; one with more is disconnected.
MOST_UNREAD = 1 << 24
#: Seconds that clients have at the end to read what they asked for.
LAST_PATIENCE = 1.0
#: `select` takes descriptors below 1,024 alone.
MOST_DESCRIPTORS = 1000


class Clients:
    """Listens in the working directory, which is the run's folder.

    Never waits for a client: what it does not read yet is kept until it does.
    """

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
        self._unread: dict[Socket, bytearray] = {}
        self._alone_since = time.monotonic()

    @property
    def sockets(self) -> list[Socket]:
        """The sockets to read from."""
        return [self._listener, *self._open]

    @property
    def writable(self) -> list[Socket]:
        """The sockets to write to once they take more."""
        return list(self._unread)

    @property
    def alone_since(self) -> float | None:
        """When the last client disconnected, by ``time.monotonic``; None while one is connected."""
        return None if self._open else self._alone_since

    def hear(self, ready: Socket) -> list[tuple[Socket, Message]]:
        """Read from one of the sockets; return pairs of a client and its message."""
        if ready is self._listener:
            client = self._listener.accept()[0]
            if client.fileno() < MOST_DESCRIPTORS:
                self._open[client] = protocol.Decoder(forgiving=True)
            else:
                client.close()
            return []
        try:
            data = ready.recv(1 << 16)
        except OSError:
            data = b""
        if data:
            return [(ready, message) for message, _ in self._open[ready].feed(data)]
        self.hang_up(ready)
        return []

    def pid(self, client: Socket) -> int:
        """Return the pid of a client as this host numbers it, also of one in a container (unix(7))."""
        credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[:4], sys.byteorder)

    def hang_up(self, client: Socket) -> None:
        """Disconnect a client that is gone or sends nonsense."""
        if self._open.pop(client, None) is not None:
            self._subscribers.discard(client)
            self._unread.pop(client, None)
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
            if client not in self._unread:
                _some_sent(client, b"\n")  # if it takes no more, it has enough that wakes it

    def flush(self, client: Socket) -> None:
        """Send what is left of the answers to a client that takes more."""
        left = self._unread.pop(client, None)
        if left:
            self._send(client, bytes(left))

    def _send(self, client: Socket, data: bytes) -> None:
        if client not in self._open:
            return
        if client not in self._unread:
            data = data[_some_sent(client, data) :]
        if data:
            unread = self._unread.setdefault(client, bytearray())
            unread += data
            if len(unread) > MOST_UNREAD:
                self.hang_up(client)

    def part(self) -> None:
        """Disconnect all clients; whoever connects from now on is heard."""
        for client, unread in self._unread.items():
            client.settimeout(LAST_PATIENCE)
            try:
                client.sendall(unread)
            except OSError:
                pass
        for client in list(self._open):
            self.hang_up(client)

    def close(self) -> None:
        """Disconnect all clients, and listen no more."""
        self.part()
        self._listener.close()


def _some_sent(client: Socket, data: bytes) -> int:
    """Return how many bytes a client took without waiting; all of them if it is gone."""
    try:
        return client.send(data, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # the next read from it notices
