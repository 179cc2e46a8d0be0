"""Runs commands on this host for processes on other hosts of the run, as sshd would.

A command does not outlive the connection it was requested on: when that closes, for whatever reason,
the command gets SIGTERM, and SIGKILL after the grace.
"""

from __future__ import annotations

import asyncio
import os
import signal

from ..base import frames, lean
from ..base.memory_files import in_memory
from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from ..base.messages import Message

#: Seconds between two looks whether a process group is gone.
LOOK = 0.05


class Commands:
    """The processes that this agent started: commands, and on the head node the framework's launcher.

    ``env`` and ``cwd`` are the node's; ``grace`` is in seconds. Needs a running event loop.
    """

    def __init__(self, env: dict[str, str], cwd: str, grace: float) -> None:
        self._env, self._cwd, self._grace = env, cwd, grace
        self._ends: dict[int, asyncio.Future[int]] = {}  # exit codes by pid
        self._served: set[asyncio.Task[None]] = set()
        self._groups: set[int] = set()  # of commands that are served
        self._stopping = asyncio.Event()
        asyncio.get_event_loop().add_signal_handler(signal.SIGCHLD, self._reap)

    def start(
        self, argv: list[str], env: dict[str, str], streams: list[int]
    ) -> tuple[int, asyncio.Future[int]]:
        """Start a process; return its pid and a future of its exit code. Raises OSError."""
        pid = processes.start_with(processes.Launch(argv, env, self._cwd), streams)
        self._ends[pid] = asyncio.get_event_loop().create_future()
        return pid, self._ends[pid]

    def _reap(self) -> None:
        for pid in list(self._ends):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._ends.pop(pid).set_result(processes.exit_code(status))

    def stop(self) -> None:
        """Stop all commands, as if their connections had closed."""
        self._stopping.set()

    def send(self, number: int) -> None:
        """Send a signal to all commands that are served."""
        for group in self._groups:
            signal_group(group, number)

    async def finish(self) -> None:
        """Wait until no command is left."""
        while self._served:
            await asyncio.wait(self._served)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str
    ) -> None:
        """Run a shell ``command`` whose streams are frames on this connection, until both are over."""
        task = asyncio.ensure_future(self._serve(reader, writer, command))
        self._served.add(task)
        try:
            await task
        finally:
            self._served.discard(task)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str
    ) -> None:
        try:
            pid, ended, pipes = self._start_shell(command)
        except OSError as error:
            await say(writer, frames.EXIT, {"trouble": "cannot start sh: %s" % error})
            return
        self._groups.add(pid)
        ended.add_done_callback(lambda _: self._groups.discard(pid))
        stdin, transports = await _writing(pipes[0])
        outputs = []
        for fd, kind in ((pipes[1], frames.OUTPUT), (pipes[2], frames.ERROR)):
            stream, transport = await _reading(fd)
            outputs.append(_pass_on(stream, writer, kind))
            transports.append(transport)
        hearing = asyncio.ensure_future(self._hear(reader, writer, stdin, pid))
        telling = asyncio.ensure_future(self._tell(writer, outputs, ended))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await _first_of(hearing, telling, stopping)
            if not telling.done():
                await self._end(pid)
                await _first_of(hearing, telling)
            if telling.done():
                await hearing  # the other side closes the connection when it has read everything
        finally:
            for task in (hearing, telling, stopping):
                task.cancel()
            await asyncio.gather(hearing, telling, stopping, return_exceptions=True)
            for transport in transports:
                transport.close()

    def _start_shell(self, command: str) -> tuple[int, asyncio.Future[int], list[int]]:
        """Start a shell with the command in a memfd: all users of the host can read arguments."""
        script = in_memory("exec 3<&-\n%s\n" % command)  # close the shell's own copy
        stdin, stdout, stderr = os.pipe(), os.pipe(), os.pipe()
        theirs = [stdin[0], stdout[1], stderr[1]]
        ours = [stdin[1], stdout[0], stderr[0]]
        try:
            env = dict(self._env, LAUNCHER_NODE=self._env["LAUNCHER_RUN_DIR"])
            pid, ended = self.start(["/bin/sh", "/proc/self/fd/3"], env, theirs + [script])
        except OSError:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in [script] + theirs:
                os.close(fd)
        return pid, ended, ours

    async def _hear(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stdin: _Input, pid: int
    ) -> None:
        """Pass input and signals on until the connection closes. Never wait for the command."""
        while True:
            kind, data = await frames.read(reader)
            if kind == frames.SIGNAL:
                if pid in self._groups:
                    signal_group(pid, lean.loads(data.decode("utf-8"))["signal"])
                continue
            if kind != frames.INPUT:
                return
            if data:
                stdin.take(data, lambda size: say_soon(writer, frames.TAKEN, {"taken": size}))
            else:
                stdin.end()

    async def _tell(
        self,
        writer: asyncio.StreamWriter,
        outputs: list[Coroutine[Any, Any, None]],
        ended: asyncio.Future[int],
    ) -> None:
        await asyncio.gather(*outputs)
        code = await ended
        await say(writer, frames.EXIT, {"code": code if code >= 0 else 128 - code})

    async def _end(self, pid: int) -> None:
        """Stop the process group of a command: SIGTERM, and SIGKILL after the grace."""
        loop = asyncio.get_event_loop()
        deadline = loop.time() + self._grace
        signal_group(pid, signal.SIGTERM)
        signal_group(pid, signal.SIGCONT)
        while signal_group(pid, 0):
            if loop.time() >= deadline:
                signal_group(pid, signal.SIGKILL)
            await asyncio.sleep(LOOK)


def signal_group(group: int, number: int) -> bool:
    """Send a signal to a process group; return False when no process of it is left."""
    try:
        os.killpg(group, number)
    except OSError:
        return False
    return True


class _Input(asyncio.Protocol):
    """The standard input of a command. At most ``frames.WINDOW`` bytes wait here for it."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport
        self._waiting: list[tuple[bytes, Callable[[int], None]]] = []
        self._full = self._gone = False

    def connection_made(self, transport: asyncio.WriteTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        self._gone = True
        self._write_waiting()

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        # Not at once: a transport that closes during this call drops what is written to it.
        asyncio.get_event_loop().call_soon(self._write_waiting)

    def _write_waiting(self) -> None:
        self._full = False
        waiting, self._waiting = self._waiting, []
        for data, taken in waiting:
            self.take(data, taken)

    def take(self, data: bytes, taken: Callable[[int], None]) -> None:
        """Write ``data``; call ``taken`` with its size as soon as there is room for more."""
        if self._full:
            self._waiting.append((data, taken))
            return
        if not self._gone:  # else the command closed its input
            self._transport.write(data)
        taken(len(data))

    def end(self) -> None:
        """Close the input once everything is written."""
        self.take(b"", lambda _: self._transport.close())


async def _writing(fd: int) -> tuple[_Input, list[asyncio.BaseTransport]]:
    pipe = os.fdopen(fd, "wb", 0)
    transport, protocol = await asyncio.get_event_loop().connect_write_pipe(_Input, pipe)
    return protocol, [transport]


async def _reading(fd: int) -> tuple[asyncio.StreamReader, asyncio.BaseTransport]:
    reader = asyncio.StreamReader(limit=frames.PIECE)
    pipe = os.fdopen(fd, "rb", 0)
    transport, _ = await asyncio.get_event_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), pipe
    )
    return reader, transport


async def _first_of(*tasks: asyncio.Future[Any]) -> None:
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: bytes) -> None:
    while True:
        data = await reader.read(frames.PIECE)
        if not data:
            return
        await say(writer, kind, data)


#: What writing to a lost connection may raise; the last by a TLS transport of Python 3.11.
LOST = (OSError, AttributeError)


async def say(writer: asyncio.StreamWriter, kind: bytes, data: bytes | Message) -> None:
    """Write a frame and wait for room. A lost connection is no error here: its reader reports it."""
    try:
        writer.write(frames.frame(kind, data))
        await writer.drain()
    except LOST:
        pass


def say_soon(writer: asyncio.StreamWriter, kind: bytes, data: bytes | Message) -> None:
    """Write a frame that is short, without waiting for room."""
    try:
        writer.write(frames.frame(kind, data))
    except LOST:
        pass


def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection, lost or not."""
    try:
        writer.close()
    except LOST:
        pass
