"""Whose a connection on loopback is: the kernel's table of sockets says it, where there is one."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

_TABLE = Path("/proc/net/tcp")


def user_of(here: tuple[str, int], there: tuple[str, int], table: Path = _TABLE) -> int | None:
    """Return the user id of the process at the other end (``there``) of a TCP connection from this
    machine to ``here``; None if it is not known."""
    wanted = [_written(there), _written(here)]
    try:
        with table.open() as lines:
            for line in lines:
                words = line.split()
                if words[1:3] == wanted:
                    return int(words[7])
    except (OSError, ValueError, IndexError):
        pass
    return None


def _written(address: tuple[str, int]) -> str:
    """Return an IPv4 address and port as the table writes them, in the machine's order of bytes."""
    number = int.from_bytes(socket.inet_aton(address[0]), sys.byteorder)
    return f"{number:08X}:{address[1]:04X}"
