"""Run a ProxyCommand as ssh(1) does, and talk to the host through it.

asyncssh's own way takes what the command writes to stderr for the host's answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence

#: What is kept of what the command wrote to stderr, in bytes.
TAIL = 4096


class ProxyCommand:
    """A running command whose stdin and stdout are one end of ``socket``.

    It has a session of its own: Ctrl-C at the terminal is not for it.
    """

    def __init__(self, process: asyncio.subprocess.Process, end: socket.socket) -> None:
        self.socket = end
        self._process = process
        self._said = b""
        self._reader = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, argv: Sequence[str]) -> ProxyCommand:
        """Start it. Raises OSError."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        return cls(process, ours)

    @property
    def complaint(self) -> str:
        """The last line that it wrote to stderr."""
        lines = self._said.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def end(self) -> None:
        """End it as ssh(1) does: by SIGHUP."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGHUP)
        self.socket.close()

    async def _read(self) -> None:
        assert self._process.stderr
        while piece := await self._process.stderr.read(TAIL):
            self._said = (self._said + piece)[-TAIL:]
        await self._process.wait()
