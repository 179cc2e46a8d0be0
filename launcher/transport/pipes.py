"""Joins a command on a host with two pipes here: what one writes, the other reads.

Whichever side ends first, the other is told by the end of its stream. (asyncssh's own redirection
to a pipe raises in a callback, on the user's screen, when there is somebody left on one side only.)
"""

from __future__ import annotations

import asyncio
import os

import asyncssh

from .ssh import Connection

#: Bytes of what a command wrote to stderr that are kept.
WORDS = 1 << 16


class Joint(asyncssh.SSHClientSession[bytes]):
    """The command: its stdout goes to a pipe, and what comes from another goes to its stdin."""

    _channel: asyncssh.SSHClientChannel[bytes]

    def __init__(self) -> None:
        self._words = b""
        self._ended = asyncio.Event()
        self._hung_up = self._full = False
        self._to_pipe: asyncio.WriteTransport | None = None
        self._from_pipe: asyncio.ReadTransport | None = None

    async def run(self, connection: Connection, command: str, ours: list[int]) -> bytes:
        """Runs a command, once; returns what it wrote to stderr.

        ``ours`` are the descriptors for its stdout and of its stdin: they are taken from the list, and
        closed when the command has ended. Raises asyncssh.Error when it cannot be run.
        """
        loop = asyncio.get_running_loop()
        self._to_pipe, _ = await loop.connect_write_pipe(
            lambda: _Throttle(self), os.fdopen(ours.pop(0), "wb", 0)
        )
        try:
            if not self._hung_up:
                await connection.create_session(lambda: self, command, encoding=None)
                self._from_pipe, _ = await loop.connect_read_pipe(
                    lambda: _Source(self), os.fdopen(ours.pop(0), "rb", 0)
                )
                self.stdin_waits(self._full)
                await self._ended.wait()
        except BaseException:
            if not self._to_pipe.is_closing():
                self._to_pipe.abort()
            raise
        finally:
            self._close()
        return self._words

    def hang_up(self) -> None:
        """Nobody reads the output any more. The command is told by the end of its stdin, which comes
        when those who hold the other pipe are told by the end of theirs."""
        self._hung_up = True
        if self._to_pipe:
            self._to_pipe.close()

    def send(self, data: bytes) -> None:
        """To stdin of the command; to nowhere once it takes no more."""
        if not self._channel.is_closing():
            self._channel.write(data)

    def send_eof(self) -> None:
        """The end of the command's stdin."""
        self._channel.write_eof()

    def stdout_waits(self, waits: bool) -> None:
        """A command whose output nobody reads has to wait."""
        if hasattr(self, "_channel"):
            (self._channel.pause_reading if waits else self._channel.resume_reading)()

    def stdin_waits(self, waits: bool) -> None:
        """Whoever writes has to wait for a command that does not read."""
        self._full = waits
        if self._from_pipe and not self._from_pipe.is_closing():
            (self._from_pipe.pause_reading if waits else self._from_pipe.resume_reading)()

    def _close(self) -> None:
        """All three; what is on its way to the pipe still gets there."""
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
            self._words = (self._words + data)[:WORDS]
        elif self._to_pipe and not self._to_pipe.is_closing():
            self._to_pipe.write(data)

    def eof_received(self) -> bool:
        self.hang_up()
        return True  # it may still be reading

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended.set()
        self._close()

    def pause_writing(self) -> None:
        self.stdin_waits(True)

    def resume_writing(self) -> None:
        self.stdin_waits(False)


class _Source(asyncio.Protocol):
    """What is read from a pipe goes to the command."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint

    def data_received(self, data: bytes) -> None:
        self._joint.send(data)

    def eof_received(self) -> None:
        self._joint.send_eof()


class _Throttle(asyncio.BaseProtocol):
    """A pipe that is full, and one that has room again or nobody who reads it."""

    def __init__(self, joint: Joint) -> None:
        self._joint = joint

    def pause_writing(self) -> None:
        self._joint.stdout_waits(True)

    def resume_writing(self) -> None:
        self._joint.stdout_waits(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._joint.stdout_waits(False)
