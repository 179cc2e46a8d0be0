"""Finds free ports of this host, and holds them until they are needed."""

from __future__ import annotations

import errno
import os

from ..base.tcp import listen
from .probe import port_is_free

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..base.lean import Socket


def hold(ports: Sequence[int], least: int, most: int) -> list[Socket]:
    """Listen on ``most`` free ports of a range, ``(first, last)``, or on fewer if there are none left.

    Raises OSError when there are not even ``least``.
    """
    held: list[Socket] = []
    for port in _candidates(*ports):
        if len(held) < most and port_is_free(port):
            try:
                held.append(listen(port))
            except OSError:
                continue
    if len(held) < least:
        for one in held:
            one.close()
        wanted = "no port is free" if least == 1 else "fewer than %d ports are free" % least
        raise OSError(errno.EADDRINUSE, wanted + " from %d to %d" % tuple(ports))
    return held


def _candidates(first: int, last: int) -> Iterator[int]:
    """Yield up to 512 ports from a random one on, so that two runs rarely try the same."""
    count = last - first + 1
    start = int.from_bytes(os.urandom(4), "big") % count
    for step in range(min(count, 512)):
        yield first + (start + step) % count
