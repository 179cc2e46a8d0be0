"""This machine as if it were a host: for an agent that works here."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from ..spec import errors
from ..spec.model import Host
from .connection import Bridge, Connection, RemoteProcess, Terminal, Tunnel
from .openssh_connection import OpensshProcess

#: What people read where a host would be named.
HERE = "this machine"
#: Seconds for an agent to end what it does, once nobody asks it any more.
ENDING = 20.0


def this_machine(workdir: Path) -> Host:
    """Return this machine as a host, whose agent keeps its files in a folder."""
    return Host(HERE, python=sys.executable, workdir=os.fspath(workdir))


class LocalConnection(Connection):
    """Runs commands here. Its agents end with their stdin, so also when this process is killed."""

    def __init__(self) -> None:
        super().__init__(HERE)
        self._running: list[OpensshProcess] = []
        self._is_closed = False

    async def execute(self, command: str, terminal: Terminal | None = None) -> RemoteProcess:
        """See :class:`Connection`."""
        if self._is_closed:
            raise errors.ConnectionLost(self.host, "the connection was closed")
        process = await OpensshProcess.start(["/bin/sh", "-c", command], terminal)
        self._running.append(process)
        return _Quiet(process)

    def bridge(self) -> Bridge:
        """Nothing is copied from here to here."""
        raise NotImplementedError

    async def tunnel(self, port: int) -> Tunnel:
        """See :class:`Connection`."""
        raise errors.ConnectionLost(self.host, "there are no tunnels to it")

    async def refuses_more(self) -> bool:
        """See :class:`Connection`."""
        return False

    @property
    def is_closed(self) -> bool:
        """See :class:`Connection`."""
        return self._is_closed

    def close(self) -> None:
        """See :class:`Connection`: who reads from us learns that it is over."""
        self._is_closed = True
        for process in self._running:
            process.stdin.close()

    def abort(self) -> None:
        """See :class:`Connection`."""
        self.close()

    async def wait_closed(self) -> None:
        """Wait until all have ended what they did; hang up on those that do not."""
        self.close()
        ending = [asyncio.ensure_future(process.wait_closed()) for process in self._running]
        if not ending:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDING):
                await asyncio.gather(*ending)
            return
        for process in self._running:
            process.close()


class _Quiet:
    """A process that is asked to end by the end of its stdin, and by no signal."""

    def __init__(self, process: OpensshProcess) -> None:
        self._process = process
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr

    @property
    def exit_status(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._process.exit_status

    def change_terminal_size(self, width: int, height: int) -> None:
        """Tell its terminal the size of the window."""
        self._process.change_terminal_size(width, height)

    def close(self) -> None:
        """Let it end."""
        self._process.stdin.close()

    async def wait_closed(self) -> None:
        """Wait until it is over."""
        await self._process.wait_closed()
