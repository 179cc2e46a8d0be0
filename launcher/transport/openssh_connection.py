"""A connection of OpenSSH's own client, for logins that no library can do.

Second factors through an open ControlMaster, FIDO keys, Kerberos, PKCS#11: all that makes
``ssh gpu1 true`` work without a question. Each command is an ``ssh`` of its own over one master: the
user's, where one is open, or else ours, which ends with the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Sequence
from functools import cache

from ..spec import errors
from .asyncssh_connection import too_many_sessions
from .child_process import ChildProcess
from .connection import FROZEN, Bridge, Connection, RemoteProcess, Terminal, Tunnel
from .login_folder import LoginFolder
from .openssh_words import explained

#: Seconds for a login without a question, and for a master to say whether it is there.
PATIENCE, CHECKING = 20.0, 5.0
#: Seconds of these to connect and to be greeted, where the user's ssh_config says nothing.
GREETING = 8
#: Seconds for an ssh to end.
ENDING = 2.0
#: The most bytes kept of a command's stderr.
MOST_STDERR = 1 << 16

#: What an ssh of ours never does, whatever ssh_config says.
_PLAIN = (
    "BatchMode=yes",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "StrictHostKeyChecking=yes",
    "UpdateHostKeys=no",
    "LogLevel=ERROR",
)
#: The same, of keywords that ssh knows since 8.7: the agent talks through stdin, in the foreground.
_NEWER = ("StdinNull=no", "ForkAfterAuthentication=no")
#: What the master does besides: it says a word when it is in and listens.
_MASTER = (
    "ControlMaster=yes",
    "ControlPersist=no",
    "ServerAliveInterval=3",
    "ServerAliveCountMax=3",
    "PermitLocalCommand=yes",
    "LocalCommand=echo in",
)


class OpensshConnection(Connection):
    """A login by ``ssh``."""

    def __init__(
        self, host: str, argv: Sequence[str], folder: LoginFolder, master: ChildProcess | None
    ) -> None:
        super().__init__(host)
        self._argv, self._folder, self._master = tuple(argv), folder, master
        self._running: set[OpensshProcess] = set()
        self._is_closed = False

    @classmethod
    async def open(cls, host: str, config: str) -> OpensshConnection:
        """Log in to ``host`` by this ssh_config; over the user's own master where one is open.

        Raises ConnectError.
        """
        try:
            folder = LoginFolder(f"{config}Match all\nConnectTimeout {GREETING}\n")
            try:
                return await cls._login(host, folder)
            except BaseException:
                folder.remove()
                raise
        except FileNotFoundError as error:
            raise errors.ConnectError(
                host, f"there is no {error.filename} on this machine"
            ) from None

    @classmethod
    async def _login(cls, host: str, folder: LoginFolder) -> OpensshConnection:
        base = ["ssh", f"-F{folder.config}"]
        never = [f"-o{option}" for option in (*_PLAIN, *_newer())]
        plain = [*never, *_with_command(), "-oControlMaster=no"]
        if await _has_master([*base, *plain, "-O", "check", "--", host]):
            return cls(host, [*base, *plain], folder, None)
        base += [f"-S{folder.socket}"]
        options = [*(f"-o{option}" for option in _MASTER), *never]
        argv = [*_dies_with_us(), *base, *options, "-N", "-T", "--", host]
        master = await ChildProcess.start(argv, stdout=subprocess.PIPE)
        try:
            await _until_in(host, master)
        except BaseException:
            await master.end()
            raise
        return cls(host, [*base, *plain], folder, master)

    async def execute(self, command: str, terminal: Terminal | None = None) -> RemoteProcess:
        """See :class:`Connection`."""
        if self.is_closed:
            raise errors.ConnectionLost(self.host, "the connection was lost")
        return await self._start(self._command(command, terminal), terminal)

    async def tunnel(self, port: int) -> Tunnel:
        """See :class:`Connection`."""
        argv = [*self._argv, "-W", f"localhost:{port}", "--", self.host]
        return await self._start(argv, None)

    def bridge(self) -> Bridge:
        """See :class:`Connection`."""
        return _Piped(self)

    async def refuses_more(self) -> bool:
        """See :class:`Connection`. ``ssh`` logs in on its own where the master is refused."""
        process = await ChildProcess.start(self._command("true", None), stdout=subprocess.DEVNULL)
        assert process.stderr
        said = await process.stderr.read(MOST_STDERR)
        await process.wait()
        return b"session request failed" in said

    @property
    def is_over(self) -> bool:
        """Whether it is closed, and every ssh of it has ended."""
        if any(process.is_running for process in self._running):
            return False
        return self._master.returncode is not None if self._master else self._is_closed

    @property
    def is_closed(self) -> bool:
        """See :class:`Connection`."""
        return self._is_closed or bool(self._master and self._master.returncode is not None)

    def close(self) -> None:
        """See :class:`Connection`."""
        self._is_closed = True
        for process in self._running:
            process.close()
        if self._master:
            self._master.send_signal(signal.SIGTERM)
        self._folder.remove()

    def abort(self) -> None:
        """See :class:`Connection`."""
        self.close()

    async def wait_closed(self) -> None:
        """Wait until no ssh of it is left, nor a pipe; kill one that does not end."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ENDING):
                    await self._end(number)
                return

    async def _end(self, number: signal.Signals) -> None:
        master = [self._master.end(number)] if self._master else []
        await asyncio.gather(*(process.end(number) for process in self._running), *master)

    async def piped(self, command: str, stdin: int, stdout: int) -> ChildProcess:
        """Start a command between two descriptors; its stderr is a pipe."""
        return await ChildProcess.start(self._command(command, None), stdin=stdin, stdout=stdout)

    def refused(self, complaint: str) -> errors.HostError:
        """Return the error for an ssh that ended with 255."""
        if "session request failed" in complaint or "open refused" in complaint:
            return too_many_sessions(self.host, complaint)
        return errors.ConnectionLost(self.host, f"the connection was lost: {complaint}")

    async def _start(self, argv: Sequence[str], terminal: Terminal | None) -> OpensshProcess:
        process = await OpensshProcess.start(argv, terminal)
        self._running = {one for one in self._running if one.is_running} | {process}
        return process

    def _command(self, command: str, terminal: Terminal | None) -> list[str]:
        return [*self._argv, "-tt" if terminal else "-T", "--", self.host, command]


class OpensshProcess:
    """A command on a host: the ``ssh`` that runs it here."""

    def __init__(
        self,
        process: ChildProcess,
        stdin: _Stdin,
        stdout: asyncio.StreamReader,
        stderr: asyncio.StreamReader,
        screen: int | None,
    ) -> None:
        self.stdin, self.stdout, self.stderr = stdin, stdout, stderr
        self._process, self._screen = process, screen

    @classmethod
    async def start(cls, argv: Sequence[str], terminal: Terminal | None) -> OpensshProcess:
        """Start it, in a terminal of its own if there is to be one."""
        if terminal is None:
            process = await ChildProcess.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert process.stdin and process.stdout and process.stderr  # noqa: PT018
            return cls(process, _Stdin(process.stdin), process.stdout, process.stderr, None)
        kind, columns, lines = terminal
        screen, keyboard = pty.openpty()
        _resize(screen, columns, lines)
        try:
            process = await ChildProcess.start(
                argv, stdin=keyboard, stdout=keyboard, env={**os.environ, "TERM": kind}
            )
        finally:
            os.close(keyboard)
        assert process.stderr
        reader, writer = await _streams(screen)
        return cls(process, _Stdin(writer), reader, process.stderr, screen)

    @property
    def is_running(self) -> bool:
        """Whether the ssh still runs."""
        return self._process.returncode is None

    @property
    def exit_status(self) -> int | None:
        """Its exit code; None while it runs, and where the connection ended first."""
        code = self._process.returncode
        return None if code is None or code < 0 or code == 255 else code

    def change_terminal_size(self, width: int, height: int) -> None:
        """Tell its terminal the size of the window."""
        if self._screen is not None:
            _resize(self._screen, width, height)
            self._process.send_signal(signal.SIGWINCH)

    def close(self) -> None:
        """Hang up."""
        self.stdin.close()
        self._process.send_signal(signal.SIGTERM)

    async def end(self, number: signal.Signals) -> None:
        """Send a signal, and wait until it is over and its pipes are closed."""
        await self._process.end(number)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until it is over."""
        await self._process.wait()
        self.stdin.close()
        if self._screen is not None:
            os.close(self._screen)
            self._screen = None


class _Stdin:
    """Keeps what does not fit into the pipe yet, and drops it when the command is gone."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    def write(self, data: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(data)

    def write_eof(self) -> None:
        self.close()  # what is kept is still sent

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self._writer.close()


class _Piped(Bridge):
    def __init__(self, connection: OpensshConnection) -> None:
        self._connection = connection
        self._process: ChildProcess | None = None
        self._hung_up = False

    async def run(self, command: str, ours: list[int]) -> bytes:
        if self._hung_up:
            return b""
        process = await self._connection.piped(command, stdin=ours[1], stdout=ours[0])
        self._process = process
        while ours:
            os.close(ours.pop())
        try:
            assert process.stderr
            complaint = b""
            while piece := await process.stderr.read(MOST_STDERR):
                complaint = (complaint + piece)[:MOST_STDERR]
            # ssh also ends with 255, and without a word, where its command was killed or we hung up.
            if await process.wait() == 255 and complaint and not self._hung_up:
                raise self._connection.refused(complaint.decode(errors="replace").strip())
            return complaint
        finally:
            await process.end()

    def hang_up(self) -> None:
        self._hung_up = True
        if self._process:
            self._process.send_signal(signal.SIGTERM)


@cache
def _dies_with_us() -> tuple[str, ...]:
    """Return what has Linux end a program when we are killed; nothing where that cannot be had."""
    try:
        usage = subprocess.run(["setpriv", "--help"], capture_output=True, check=False).stdout
    except OSError:
        return ()
    return ("setpriv", "--pdeathsig", "TERM") if b"--pdeathsig" in usage else ()


@cache
def _newer() -> tuple[str, ...]:
    """Return those of our options that an ssh before 8.7 would take for a mistake."""
    words = ["ssh", "-F", "none", "-G", *(f"-o{option}" for option in _NEWER), "host"]
    known = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return _NEWER if known.returncode == 0 else ()


def _with_command() -> tuple[str, ...]:
    """Return what an ssh_config with ``SessionType none`` takes to run a command; the master has -N."""
    return ("-oSessionType=default",) if _newer() else ()


async def _has_master(argv: Sequence[str]) -> bool:
    process = await ChildProcess.start(argv, stderr=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(CHECKING):
            await process.wait()
    except TimeoutError:
        return False  # a master that does not answer is none
    finally:
        await process.end()
    return process.returncode == 0


async def _until_in(host: str, master: ChildProcess) -> None:
    """Wait until the master has logged in, and listens. Raises ConnectError."""
    assert master.stdout and master.stderr  # noqa: PT018
    try:
        async with asyncio.timeout(PATIENCE):
            if not await master.stdout.readline():
                raise explained(host, (await master.stderr.read()).decode(errors="replace"))
    except TimeoutError:
        raise errors.NoBanner(
            host, f"`ssh {host}` did not log in within {PATIENCE:.0f} s", FROZEN
        ) from None


def _resize(screen: int, columns: int, lines: int) -> None:
    with contextlib.suppress(OSError):
        fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


class _Screen(asyncio.StreamReaderProtocol):
    """The end of a terminal is an error to read; to us it is the end."""

    def connection_lost(self, exc: Exception | None) -> None:
        ended = isinstance(exc, OSError) and exc.errno == errno.EIO
        super().connection_lost(None if ended else exc)


async def _streams(screen: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = _Screen(reader)
    await loop.connect_read_pipe(lambda: protocol, os.fdopen(os.dup(screen), "rb", 0))
    transport, _ = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(os.dup(screen), "wb", 0)
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
