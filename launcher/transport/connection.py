"""What the product needs of an SSH connection, whoever makes it.

There are two: ``asyncssh_connection`` and ``openssh_connection``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

#: What to do about an SSH server that does not go on.
FROZEN = "sshd or the whole machine is frozen or overloaded: look at its console"
#: The type of a terminal, its columns and lines.
Terminal = tuple[str, int, int]


class Writer(Protocol):
    """The stdin of a remote process."""

    def write(self, data: bytes) -> None:
        """Send bytes; they are kept until there is room."""

    def write_eof(self) -> None:
        """End the stream."""


class Reader(Protocol):
    """The stdout or stderr of a remote process."""

    async def read(self, n: int) -> bytes:
        """Return at most ``n`` bytes, as soon as there are some; empty at the end."""


class RemoteProcess(Protocol):
    """A command that runs on a host."""

    @property
    def stdin(self) -> Writer:
        """What it reads."""

    @property
    def stdout(self) -> Reader:
        """What it writes."""

    @property
    def stderr(self) -> Reader:
        """What it complains of."""

    @property
    def exit_status(self) -> int | None:
        """Its exit code; None while it runs, and where the connection ended first."""

    def change_terminal_size(self, width: int, height: int) -> None:
        """Tell its terminal the size of the window, in columns and lines."""

    def close(self) -> None:
        """Hang up."""

    async def wait_closed(self) -> None:
        """Wait until it is over."""


class Tunnel(Protocol):
    """A connection to a port of a host."""

    @property
    def stdin(self) -> Writer:
        """What the other side gets."""

    @property
    def stdout(self) -> Reader:
        """What the other side sends."""

    def close(self) -> None:
        """Hang up."""


class Bridge(ABC):
    """A command on a host between two local pipes, for rsync."""

    @abstractmethod
    async def run(self, command: str, ours: list[int]) -> bytes:
        """Run a command, once; return the start of what it wrote to stderr.

        ``ours`` are the descriptors for its stdout and stdin. They are removed from the list, and
        closed when the command exits. Raises HostError if it cannot be run.
        """

    @abstractmethod
    def hang_up(self) -> None:
        """Stop reading the command's output, so that it ends."""


class Connection(ABC):
    """An open login to ``host``. Any number of commands may run over it at once."""

    def __init__(self, host: str) -> None:
        self.host = host

    @abstractmethod
    async def execute(self, command: str, terminal: Terminal | None = None) -> RemoteProcess:
        """Run a line of the login shell. Raises AgentError when the host refuses one more session,
        ConnectionLost."""

    @abstractmethod
    def bridge(self) -> Bridge:
        """Return a bridge for one command."""

    @abstractmethod
    async def tunnel(self, port: int) -> Tunnel:
        """Connect to a port of the host's loopback. Raises ConnectError where that can
        be told at once; else nothing comes back."""

    @abstractmethod
    async def refuses_more(self) -> bool:
        """Return whether the host allows no more session on this login, besides those in use.

        Then each one costs a login of its own, which is made without a word. Raises ConnectionLost.
        """

    @property
    @abstractmethod
    def is_closed(self) -> bool:
        """Whether nothing can be run over it any more."""

    @abstractmethod
    def close(self) -> None:
        """Close it in good order; commands that still run are hung up."""

    @abstractmethod
    def abort(self) -> None:
        """Drop it at once."""
