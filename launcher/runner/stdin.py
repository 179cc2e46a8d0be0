"""Passes this program's stdin on to rank 0: as much as the rank takes, and then the end."""

from __future__ import annotations

import asyncio
import base64
import os
import select
import threading

from ..spec import errors
from ..transport.answers.runs import Fed
from .context import RunContext
from .host_session import HostSession
from .host_set import HostSet

#: Bytes in one message.
PIECE = 96 << 10
#: Seconds between two tries while the rank reads nothing, at first and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.5
#: Seconds after which the host is told that there may be more.
PULSE = 10.0
FD = 0


class Stdin:
    """The input of a run. Nothing is read from it that the host has no room for."""

    def __init__(self, context: RunContext, hosts: HostSet) -> None:
        self._context, self._hosts = context, hosts
        self._offset = 0

    @property
    def was_read(self) -> bool:
        """Whether bytes went to a rank: another one could not read them again."""
        return self._offset > 0

    async def feed(self) -> None:
        """Pass it on until it ends, or nobody reads it any more."""
        session = self._head()
        if not self._context.request.stdin or session is None:
            return
        loop = asyncio.get_running_loop()
        reader = _Reader(loop)
        try:
            while True:
                data = await self._next(reader, session)
                if data is None or await self._give(session, data):
                    return
        except errors.HostError:
            pass  # the run hears of it otherwise
        finally:
            reader.close()

    def _head(self) -> HostSession | None:
        nodes = self._hosts.layout.nodes
        return self._hosts.find(nodes[0].host.name) if nodes else None

    async def _next(self, reader: _Reader, session: HostSession) -> bytes | None:
        """Return what is read next, b"" at the end; None when nobody wants it any more."""
        reading = asyncio.ensure_future(reader.read())
        try:
            while not (await asyncio.wait({reading}, timeout=PULSE))[0]:
                if (await self._send(session, b"", ended=False)).over:
                    return None
            return reading.result()
        finally:
            reading.cancel()

    async def _give(self, session: HostSession, data: bytes) -> bool:
        """Give the rank these bytes, none of them the end. Return whether that was all."""
        pause, end = FIRST_PAUSE, self._offset + len(data)
        while True:
            left = data[len(data) - (end - self._offset) :]
            fed = await self._send(session, left, ended=not data)
            if fed.over or not data:
                return True
            if fed.taken > self._offset:
                self._offset, pause = min(fed.taken, end), FIRST_PAUSE
            if self._offset == end:
                return False
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _send(self, session: HostSession, data: bytes, ended: bool) -> Fed:
        return await session.insist_on(
            Fed,
            "stdin",
            run=self._context.name,
            offset=self._offset,
            data=base64.b64encode(data).decode("ascii"),
            end=int(ended),
        )


class _Reader:
    """A thread that reads when it is asked to: a terminal or a pipe may have nothing for hours."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wanted: asyncio.Future[bytes] | None = None
        self._asked, self._wake = os.pipe()
        threading.Thread(target=self._serve, name="stdin", daemon=True).start()

    async def read(self) -> bytes:
        """Return the next bytes; b"" at the end, or where there is no stdin."""
        self._wanted = self._loop.create_future()
        os.write(self._wake, b"r")
        return await self._wanted

    def close(self) -> None:
        """Read nothing more: what is left belongs to whoever reads next."""
        os.close(self._wake)

    def _serve(self) -> None:
        while os.read(self._asked, 1):
            try:
                if self._asked in select.select([FD, self._asked], [], [])[0]:
                    break  # closed
                data = os.read(FD, PIECE)
            except (OSError, ValueError):
                data = b""
            try:
                self._loop.call_soon_threadsafe(self._take, data)
            except RuntimeError:  # the loop is closed
                break
        os.close(self._asked)

    def _take(self, data: bytes) -> None:
        if self._wanted and not self._wanted.done():
            self._wanted.set_result(data)
