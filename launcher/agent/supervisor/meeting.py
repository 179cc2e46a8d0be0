"""Looks whether anybody ever came to the port at which the ranks of a run are to meet.

A program that forgets its number of hosts trains alone on each of them, and exits with 0. The first host
sees it: nobody ever listened there. What the kernel still knows of a connection that is closed counts,
too.
"""

from __future__ import annotations

import time

#: Seconds between two looks, and how many it takes to be sure that nobody came.
EVERY, ENOUGH = 1.0, 8
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


class Meeting:
    """Looks until somebody has come."""

    def __init__(self) -> None:
        self.next_look = float("inf")
        self._port = 0
        self._looks = 0

    def begin(self, port: int | None) -> None:
        """Begin to look, unless nobody is to come."""
        self._port, self._looks = port or 0, 0
        self.next_look = time.monotonic() + EVERY if port else float("inf")

    def look(self, now: float) -> None:
        """Look, if it is time to."""
        if now < self.next_look:
            return
        self.next_look, self._looks = now + EVERY, self._looks + 1
        if _is_known(self._port):
            self.next_look, self._port = float("inf"), 0

    @property
    def nobody_came(self) -> bool:
        """Whether it has looked often enough to be sure of that."""
        return self._port > 0 and self._looks >= ENOUGH and not _is_known(self._port)


def _is_known(port: int) -> bool:
    """Return whether a socket of this host has or had that port, at its own end or at the other; True
    where that cannot be seen."""
    wanted = b":%04X " % port
    for table in TABLES:
        try:
            with open(table, "rb") as file:
                if wanted in file.read():
                    return True
        except FileNotFoundError:
            continue  # no IPv6
        except OSError:
            return True
    return False
