"""What rank 0 reads from its stdin: bytes of the user's, through a named pipe in the run's folder.

The supervisor holds both ends of the pipe, so that what it has taken survives every connection, and a
rank that another launcher starts may open it late. The reader sees the end once the user's input has
ended, or nobody has spoken of it for a while.
"""

from __future__ import annotations

import os
import time

from ..base import protocol

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Message

#: Bytes that are kept beside those in the pipe.
MOST = 1 << 18


class Feed:
    """Closed until :meth:`open`."""

    def __init__(self) -> None:
        self._pipe = -1
        self._kept = bytearray()
        self._taken = 0  # bytes of the input, from its beginning
        self._ended = False
        self._has_reader = False
        self._patience = self._heard = 0.0

    def open(self, seconds: float) -> None:
        """Make the pipe. Its end comes by itself when nobody speaks of it for ``seconds``.

        Raises OSError where the file system has no named pipes.
        """
        self.close()
        self._kept, self._taken = bytearray(), 0
        self._ended = self._has_reader = False
        os.mkfifo(protocol.STDIN, 0o600)
        self._pipe = os.open(protocol.STDIN, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._patience, self._heard = seconds, time.monotonic()

    @property
    def writable(self) -> list[int]:
        """The pipe, while there is something to write to it."""
        return [self._pipe] if self._kept and self._pipe >= 0 else []

    @property
    def next_look(self) -> float:
        """When :meth:`look` is due."""
        return self._heard + self._patience if self._pipe >= 0 else float("inf")

    def begin(self) -> None:
        """Note that the reader has opened the pipe: from now on its end may come."""
        self._has_reader = True
        self._finish()

    def take(self, offset: int, data: bytes, ended: bool) -> Message:
        """Take bytes of the input from ``offset`` on, as many as there is room for; ``ended``: these are
        the last. Return how many were ``taken`` in all, and whether it is ``over`` for the reader."""
        if self._pipe < 0:
            return {"taken": self._taken, "over": True}
        self._heard = time.monotonic()
        fresh = data[self._taken - offset :] if offset <= self._taken else b""
        piece = fresh[: MOST - len(self._kept)]
        self._kept += piece
        self._taken += len(piece)
        self._ended = self._ended or (ended and self._taken >= offset + len(data))
        self.write()
        return {"taken": self._taken, "over": self._pipe < 0}

    def write(self) -> None:
        """Write as much as the pipe takes."""
        try:
            while self._kept and self._pipe >= 0:
                del self._kept[: os.write(self._pipe, self._kept)]
        except BlockingIOError:
            pass
        self._finish()

    def look(self, now: float) -> None:
        """End the input when nobody has spoken of it for too long."""
        if now >= self.next_look:
            self._ended, self._heard = True, now
            self._finish()

    def _finish(self) -> None:
        if self._ended and self._has_reader and not self._kept:
            self.close()

    def close(self) -> None:
        """End the input: its reader gets what is in the pipe, and then the end."""
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        try:
            os.unlink(protocol.STDIN)
        except FileNotFoundError:
            pass
