"""A connection of asyncssh's: in this process, without a program of OpenSSH's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncssh

from ..spec import errors
from .connection import Bridge, Connection, Reader, RemoteProcess, Terminal, Tunnel, Writer
from .pipes import Joint

#: Seconds between keep-alives, and how many may go unanswered. Few, because a lost connection costs
#: nothing: it is opened again, and logs continue at the same byte.
KEEPALIVE, KEEPALIVES = 2.5, 3
#: Unanswered keep-alives while a session opens: sshd does not answer while its PAM modules prepare
#: it, which takes a while on a busy host or with a home on a network file system.
OPENING = 9


T = TypeVar("T")
#: Something that opens a session on a login.
Opening = Callable[[asyncssh.SSHClientConnection], Awaitable[T]]


class AsyncsshConnection(Connection):
    """An SSH connection, with a channel for each command.

    Where sshd allows no more sessions on it (MaxSessions), ``again`` logs in once more.
    """

    def __init__(
        self,
        host: str,
        ssh: asyncssh.SSHClientConnection,
        again: Callable[[], Awaitable[asyncssh.SSHClientConnection]],
    ) -> None:
        super().__init__(host)
        self._ssh, self._again = ssh, again
        self._more: list[asyncssh.SSHClientConnection] = []

    async def execute(self, command: str, terminal: Terminal | None = None) -> RemoteProcess:
        """See :class:`Connection`."""
        kind, *size = terminal or (None,)

        async def start(ssh: asyncssh.SSHClientConnection) -> RemoteProcess:
            _bear(ssh, OPENING)
            try:
                return await ssh.create_process(
                    command, encoding=None, term_type=kind, term_size=tuple(size)
                )
            finally:
                _bear(ssh, KEEPALIVES)

        return await self._open(start)

    async def _open(self, opening: Opening[T]) -> T:
        """Open a session on the first login that allows one more. Raises HostError."""
        try:
            for ssh in (self._ssh, *self._more):
                try:
                    return await opening(ssh)
                except asyncssh.ChannelOpenError:
                    if self.is_closed:
                        raise
            self._more = [ssh for ssh in self._more if not ssh.is_closed()]
            self._more.append(await self._again())
            return await opening(self._more[-1])
        except (OSError, asyncssh.Error) as error:
            raise self._explained(error) from None

    async def refuses_more(self) -> bool:
        """See :class:`Connection`."""
        try:
            process = await self._ssh.create_process("true", encoding=None)
        except asyncssh.ChannelOpenError:
            return not self.is_closed
        except (OSError, asyncssh.Error) as error:
            raise self._explained(error) from None
        process.close()
        return False

    def bridge(self) -> Bridge:
        """See :class:`Connection`."""
        return _Channel(self)

    async def tunnel(self, port: int) -> Tunnel:
        """See :class:`Connection`."""
        try:
            reader, writer = await self._ssh.open_connection("localhost", port)
        except asyncssh.ChannelOpenError as error:
            raise errors.ConnectError(
                self.host,
                f"nothing takes connections to port {port} there: {error.reason}",
                "is it started? sshd needs AllowTcpForwarding",
            ) from None
        except (OSError, asyncssh.Error) as error:
            raise self._explained(error) from None
        return _Tunnel(reader, writer)

    @property
    def is_closed(self) -> bool:
        """See :class:`Connection`."""
        return bool(self._ssh.is_closed())

    def close(self) -> None:
        """See :class:`Connection`."""
        for ssh in (self._ssh, *self._more):
            ssh.close()

    def abort(self) -> None:
        """See :class:`Connection`."""
        for ssh in (self._ssh, *self._more):
            ssh.abort()

    async def join(self, joint: Joint, command: str, ours: list[int]) -> bytes:
        """Run a command between two pipes. Raises HostError."""

        async def begin() -> None:
            await self._open(lambda ssh: joint.begin(ssh, command))

        try:
            return await joint.run(begin, ours)
        except asyncssh.Error as error:
            raise self._explained(error) from None

    def _explained(self, error: Exception) -> errors.HostError:
        if not isinstance(error, asyncssh.ChannelOpenError):
            return errors.ConnectionLost(self.host, f"the connection was lost: {error}")
        if self.is_closed:
            return errors.ConnectionLost(
                self.host, "the connection was lost while a session was opened"
            )
        return too_many_sessions(self.host, error.reason)


class _Tunnel:
    def __init__(
        self, reader: asyncssh.SSHReader[bytes], writer: asyncssh.SSHWriter[bytes]
    ) -> None:
        self.stdin: Writer = writer
        self.stdout: Reader = reader
        self._writer = writer

    def close(self) -> None:
        self._writer.close()


class _Channel(Bridge):
    def __init__(self, connection: AsyncsshConnection) -> None:
        self._connection, self._joint = connection, Joint()

    async def run(self, command: str, ours: list[int]) -> bytes:
        return await self._connection.join(self._joint, command, ours)

    def hang_up(self) -> None:
        self._joint.hang_up()


def _bear(ssh: asyncssh.SSHClientConnection, silences: int) -> None:
    if not ssh.is_closed():  # else it would begin to ask again
        ssh.set_keepalive(count_max=silences)


def too_many_sessions(host: str, reason: str) -> errors.AgentError:
    """Return the error for a host that refuses one more session on a connection."""
    return errors.AgentError(
        host, f"the host refused a session: {reason}", "is MaxSessions too low in its sshd_config?"
    )
