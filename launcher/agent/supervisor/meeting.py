"""Looks whether the ranks of a run that are to meet ever do.

A program that forgets its number of hosts, or to make a process group, trains alone in every rank, and
exits with 0. The host of rank 0 sees it: no rank there ever has a connection to another. Where that is
not sure, nothing is said: a rank without the library by which they meet, a connection to anything that
may be a rank, sockets that cannot be seen.
"""

from __future__ import annotations

import os
import time

from ..processes import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..base.messages import Message

    _End = tuple[bytes, int]

#: Seconds between two looks, at first and at last, and how many it takes to be sure that nobody came.
EVERY, LONGEST, ENOUGH = 1.0, 5.0, 8
#: After so many looks the pauses grow.
PATIENCE = 30
#: Ports below are those of services: a hub, a tracker, a store, DNS.
SERVICES = 1024
TABLES = ("tcp", "tcp6")
#: How an address of IPv4 begins in the table of IPv6.
_MAPPED = b"0000000000000000FFFF0000"
_LISTENS = b"0A"
#: Where the inode of a socket stands in its line.
_INODE = 9


class Meeting:
    """Looks until two ranks have met."""

    def __init__(self) -> None:
        self.next_look = float("inf")
        self._port, self._library = 0, b""
        self._ranks: dict[str, int] = {}
        self._others: set[tuple[_End, _End]] = set()  # connections to the port
        self._tries = self._looks = 0  # those at ranks with the library are the looks that count

    def begin(self, port: int | None, library: str | None) -> None:
        """Begin to look, unless nobody is to come. The path of a library that ranks have loaded which
        meet has ``library`` in it; ``port`` is where they usually do."""
        self._port = (port or 0) if library else 0
        self._library = (library or "").encode()
        self._ranks, self._others = {}, set()
        self._tries = self._looks = 0
        self.next_look = time.monotonic() + EVERY if self._port else float("inf")

    def heard(self, event: str, fields: Message) -> None:
        """Note an event of this host: which ranks there are."""
        if event == "ProcessStarted" and fields.get("rank") is not None:
            self._ranks[fields["key"]] = fields["pid"]
        elif event == "ProcessExited" and self._ranks.pop(fields["key"], 0) and self._port:
            try:
                met = self._was_left(self._at_port())
            except OSError:
                met = True
            if met:
                self._end()

    def look(self, now: float) -> None:
        """Look, if it is time to."""
        if now < self.next_look:
            return
        self._tries += 1
        self.next_look = now + min(LONGEST, EVERY * max(1.0, self._tries / PATIENCE))
        ranks = [pids for pids in processes.families(self._ranks.values()).values() if pids]
        try:
            before = self._at_port()
            met = self._was_left(before) or any(self._meets(pids) for pids in ranks)
            # What was there all the while, and no rank's, is torchrun's own.
            self._others |= {one.ends for one in before} & {one.ends for one in self._at_port()}
            if self._looks or any(self._has_library(pid) for pids in ranks for pid in pids):
                self._looks += bool(ranks)
        except OSError:  # not ours to see
            met = True
        if met:
            self._end()

    def _at_port(self) -> list[_Connection]:
        """Return the connections to the port. Raises OSError where they cannot be seen."""
        mark = b":%04X " % self._port
        return [_Connection(line.split()) for line in _lines("self") if mark in line]

    def _was_left(self, connections: list[_Connection]) -> bool:
        """Return whether one is closed, which the kernel knows for a minute, and was a rank's."""
        return any(one.is_closed and one.ends not in self._others for one in connections)

    def _end(self) -> None:
        self.next_look, self._port = float("inf"), 0

    @property
    def nobody_came(self) -> bool:
        """Whether it has looked often enough to be sure of that."""
        return self._port > 0 and self._looks >= ENOUGH

    def _has_library(self, pid: int) -> bool:
        try:
            with open("/proc/%d/maps" % pid, "rb") as file:
                return self._library in file.read()
        except (FileNotFoundError, ProcessLookupError):
            return False

    def _meets(self, pids: list[int]) -> bool:
        """Return whether a rank, which is these processes, has a connection that may be to another.

        Raises OSError where that cannot be seen.
        """
        inodes: set[bytes] = set()
        for pid in pids:
            inodes |= _sockets(pid)
        lines = map(bytes.split, _lines(pids[0]) if inodes else ())
        found = [_Connection(fields) for fields in lines if fields[_INODE] in inodes]
        own = {one.here for one in found}
        for one in found:
            if self._port in one.ports:
                return True
            is_inside = one.state == _LISTENS or one.there in own
            if not is_inside and one.there[1] >= SERVICES:
                return True
        return False


class _Connection:
    """A line of /proc/net/tcp; ends are ``(address, port)``."""

    def __init__(self, fields: list[bytes]) -> None:
        self.here, self.there = _end(fields[1]), _end(fields[2])
        self.state, self.is_closed = fields[3], fields[_INODE] == b"0"  # no process has it

    @property
    def ports(self) -> tuple[int, int]:
        return self.here[1], self.there[1]

    @property
    def ends(self) -> tuple[_End, _End]:
        return self.here, self.there


def _end(text: bytes) -> _End:
    address, _, port = text.partition(b":")
    return address[-8:] if address.startswith(_MAPPED) else address, int(port, 16)


def _lines(pid: int | str) -> Iterator[bytes]:
    """Yield the lines of all TCP sockets where a process has its network; none where it is gone.

    Raises OSError where they cannot be seen.
    """
    for table in TABLES:
        try:
            with open("/proc/%s/net/%s" % (pid, table), "rb") as file:
                lines = file.read().splitlines()[1:]
        except (FileNotFoundError, ProcessLookupError):  # no IPv6, or it has exited
            continue
        yield from lines


def _sockets(pid: int) -> set[bytes]:
    """Return the inodes of the sockets of a process. Raises OSError where they cannot be seen."""
    found = set()
    folder = "/proc/%d/fd" % pid
    try:
        for name in os.listdir(folder):
            try:
                target = os.readlink(os.path.join(folder, name))
            except FileNotFoundError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1].encode())
            elif target.startswith("/dev/infiniband/"):
                raise PermissionError("its connections are not sockets")
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found
