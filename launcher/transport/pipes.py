"""Connect a command on a host with two local pipes.

When one side ends, the other gets the end of its stream. (asyncssh's own redirection to a pipe
raises in a callback, on the user's screen, when only one side is left.)
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

import asyncssh

#: The most bytes kept of a command's stderr.
MOST_STDERR = 1 << 16
#: Bytes that a host may send before we have taken them, and with how many waiting for the pipe the
#: host resumes. asyncssh grants a new window as soon as it passes on the first piece of what it held
#: back; so it has to get rid of all of that at once, or it would hold more each time.
WINDOW, LOW = 2 << 20, 1 << 16
HIGH = WINDOW + 2 * LOW


class Joint(asyncssh.SSHClientSession[bytes]):
    """A command whose stdout goes to one pipe and whose stdin comes from another."""

    _channel: asyncssh.SSHClientChannel[bytes]

    def __init__(self) -> None:
        self._stderr = b""
        self._exited = asyncio.Event()
        self._hung_up = self._full = False
        self._to_pipe: asyncio.WriteTransport | None = None
        self._from_pipe: asyncio.ReadTransport | None = None

    async def begin(self, connection: asyncssh.SSHClientConnection, command: str) -> None:
        """Open the session of the command. Raises asyncssh.Error."""
        await connection.create_session(lambda: self, command, encoding=None, window=WINDOW)

    async def run(self, begin: Callable[[], Awaitable[None]], ours: list[int]) -> bytes:
        """Run the command that ``begin`` opens the session of, once; return what it wrote to stderr.

        ``ours`` are the descriptors for its stdout and stdin. They are removed from the list, and
        closed when the command exits. Raises asyncssh.Error if it cannot be run.
        """
        loop = asyncio.get_running_loop()
        self._to_pipe, _ = await loop.connect_write_pipe(
            lambda: _Throttle(self), os.fdopen(ours.pop(0), "wb", 0)
        )
        self._to_pipe.set_write_buffer_limits(HIGH, LOW)
        try:
            if not self._hung_up:
                await begin()
                self._from_pipe, _ = await loop.connect_read_pipe(
                    lambda: _Source(self), os.fdopen(ours.pop(0), "rb", 0)
                )
                self.stdin_waits(self._full)
                await self._exited.wait()
        except BaseException:
            if not self._to_pipe.is_closing():
                self._to_pipe.abort()
            raise
        finally:
            self._close()
        return self._stderr

    def hang_up(self) -> None:
        """Stop reading the command's output.

        The reader of the pipe sees its end and closes the other pipe, which ends the command's stdin.
        """
        self._hung_up = True
        if self._to_pipe:
            self._to_pipe.close()

    def send(self, data: bytes) -> None:
        """Write to the command's stdin; drop the data once it is closed."""
        if not self._channel.is_closing():
            self._channel.write(data)

    def send_eof(self) -> None:
        """End the command's stdin."""
        self._channel.write_eof()

    def stdout_waits(self, waits: bool) -> None:
        """Pause or resume the command's output, as the pipe is full or has space."""
        if hasattr(self, "_channel"):
            (self._channel.pause_reading if waits else self._channel.resume_reading)()

    def stdin_waits(self, waits: bool) -> None:
        """Pause or resume reading the pipe, as the command reads its stdin or not."""
        self._full = waits
        if self._from_pipe and not self._from_pipe.is_closing():
            (self._from_pipe.pause_reading if waits else self._from_pipe.resume_reading)()

    def _close(self) -> None:
        """Close the channel and both pipes; data already sent to the pipe still arrives."""
        for transport in (self._to_pipe, self._from_pipe):
            if transport:
                transport.close()
        if hasattr(self, "_channel"):
            self._channel.close()

    # -- what asyncssh calls

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self._channel = chan

    def data_received(self, data: bytes, datatype: int | None) -> None:
        if datatype is not None:
            self._stderr = (self._stderr + data)[:MOST_STDERR]
        elif self._to_pipe and not self._to_pipe.is_closing():
            self._to_pipe.write(data)

    def eof_received(self) -> bool:
        self.hang_up()
        return True  # the command may still read

    def connection_lost(self, exc: Exception | None) -> None:
        self._exited.set()
        self._close()

    def pause_writing(self) -> None:
        self.stdin_waits(True)

    def resume_writing(self) -> None:
        self.stdin_waits(False)


class _Source(asyncio.Protocol):
    """Passes data from a pipe to the command."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint

    def data_received(self, data: bytes) -> None:
        self._joint.send(data)

    def eof_received(self) -> None:
        self._joint.send_eof()


class _Throttle(asyncio.BaseProtocol):
    """Pauses the command while the pipe is full."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint

    def pause_writing(self) -> None:
        self._joint.stdout_waits(True)

    def resume_writing(self) -> None:
        self._joint.stdout_waits(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._joint.stdout_waits(False)
