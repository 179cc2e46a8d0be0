"""Whose a connection on loopback is: the kernel's tables of sockets say it, where there are any."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from pathlib import Path

#: Sockets of IPv4, and of IPv6: one of those may talk to an IPv4 address as well.
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))
#: What stands before an IPv4 address in the second table (RFC 4291, 2.5.5.2), read in words of 4 bytes.
_MAPPED = bytes(8), b"\0\0\xff\xff"
#: How often the tables are read for a connection: a line may be left out while others come and go.
_LOOKS = 3
#: Stands for the user of a connection that is in no table: it is over by now.
GONE = -1


def user_of(
    here: tuple[str, int], there: tuple[str, int], tables: Sequence[Path] = _TABLES
) -> int | None:
    """Return the user id of the process at the other end (``there``) of a TCP connection from this
    machine to ``here``; GONE if no table has it, None where there is no table."""
    found: int | None = None
    for _ in range(_LOOKS):
        for table, written in zip(tables, (_written, _written_mapped), strict=True):
            try:
                with table.open() as lines:
                    found = GONE
                    wanted = [written(there), written(here)]
                    for line in lines:
                        words = line.split()
                        if words[1:3] == wanted:
                            return int(words[7])
            except (OSError, ValueError, IndexError):
                continue
    return found


def _written(address: tuple[str, int]) -> str:
    """Return an IPv4 address and port as the first table writes them, in this machine's byte order."""
    return f"{_word(socket.inet_aton(address[0]))}:{address[1]:04X}"


def _written_mapped(address: tuple[str, int]) -> str:
    """Return them as the second table does."""
    zeros, mark = _MAPPED
    words = (zeros[:4], zeros[4:], mark, socket.inet_aton(address[0]))
    return f"{''.join(map(_word, words))}:{address[1]:04X}"


def _word(data: bytes) -> str:
    return f"{int.from_bytes(data, sys.byteorder):08X}"
