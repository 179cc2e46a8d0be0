"""Run a program of this machine beside the event loop.

Not by asyncio's own subprocesses: their ``send_signal`` and ``close`` poll, and so reap what the
watcher waits for, which then reports 255 and warns on stderr; their ``wait`` waits for all that hold
the pipes; and a start that is cancelled waits for pipes that it never opened. Popen alone reaps here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import IO

#: Bytes that a reader buffers before it stops reading.
BUFFER = 1 << 20


class ChildProcess:
    """A running program, in a session of its own: Ctrl-C at the terminal is not for it.

    ``stdin``, ``stdout`` and ``stderr`` are there where a pipe was asked for.
    """

    def __init__(self, spawn: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._popen = spawn()
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._transports: list[asyncio.BaseTransport] = []
        self._loop = asyncio.get_running_loop()
        self._exited = self._loop.create_future()
        # Daemonic: a program that does not exit keeps nobody from leaving.
        threading.Thread(target=self._reap, name=f"reaps {self.pid}", daemon=True).start()

    @classmethod
    async def start(
        cls,
        argv: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> ChildProcess:
        """Start ``argv``. Raises OSError. Cancelled meanwhile, kill it with its children."""

        def spawn() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                argv,
                bufsize=0,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=env,
                cwd=cwd,
                pass_fds=pass_fds,
                start_new_session=True,
            )

        process = cls(spawn)
        # A few steps of the loop, never broken off: asyncio would leave half a registration behind.
        connecting = asyncio.ensure_future(process._connect())
        try:
            await asyncio.shield(connecting)
        except BaseException:
            process.signal_all(signal.SIGKILL)
            while not connecting.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait([connecting])
            process._close()
            raise
        return process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for the signal that ended it; None while it runs."""
        return self._popen.returncode

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal; if it has exited, do nothing."""
        self._popen.send_signal(number)

    def signal_all(self, number: signal.Signals) -> None:
        """Send a signal to it and to its children in its session; if it has exited, do nothing."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, number)

    async def wait(self) -> int:
        """Return its exit code once it has exited, whoever still holds its pipes."""
        code: int = await asyncio.shield(self._exited)
        return code

    async def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to it and to its children, and wait until it has exited."""
        self.signal_all(number)
        await self.wait()
        self._close()

    async def _connect(self) -> None:
        if self._popen.stdin:
            self.stdin = await self._writer(self._popen.stdin)
        if self._popen.stdout:
            self.stdout = await self._reader(self._popen.stdout)
        if self._popen.stderr:
            self.stderr = await self._reader(self._popen.stderr)

    async def _reader(self, pipe: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader(limit=BUFFER)
        transport, _ = await self._loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        self._transports.append(transport)
        return reader

    async def _writer(self, pipe: IO[bytes]) -> asyncio.StreamWriter:
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader())
        transport, _ = await self._loop.connect_write_pipe(lambda: protocol, pipe)
        self._transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, self._loop)

    def _close(self) -> None:
        """Close the pipes that are connected, whoever holds their other ends."""
        for transport in self._transports:
            transport.close()

    def _reap(self) -> None:
        code = self._popen.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            self._loop.call_soon_threadsafe(self._tell, code)

    def _tell(self, code: int) -> None:
        if not self._exited.done():
            self._exited.set_result(code)
