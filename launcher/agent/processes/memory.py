"""Limits processes to the memory of their roles by measuring, where no control group does it."""

from __future__ import annotations

import os
import time

from ..base.lean import signal
from . import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Bytes a second that a process allocates at most, and the bounds of the pause between two looks in
#: seconds: the next look comes when a process might have reached its limit.
SPEED, SOONEST, LATEST = 2 << 30, 0.05, 1.0
#: Seconds between two lists of all processes: listing reads a file of every process on the host.
LISTED = 1.0
#: The memory that counts, as proc(5) names it in /proc/PID/status. Not address space, which threads
#: (8 MiB each) and CUDA only reserve, nor mapped files, which the kernel can drop.
HELD = (b"RssAnon:", b"RssShmem:", b"VmSwap:")


class MemoryWatch:
    """Kills a limited process when it, or a descendant, holds more memory than the limit.

    Each process counts alone, as with setrlimit(2): in a sum, shared pages would count several
    times. ``kill(pids, signal)`` sends the signal.
    """

    def __init__(self, kill: Callable[[Iterable[int], int], None] = processes.send) -> None:
        self._kill = kill
        self._limits: dict[int, tuple[str, int]] = {}  # by pid: name, bytes
        self._families: dict[int, list[int]] = {}
        self._listed = float("-inf")
        self._over: dict[str, int] = {}
        self.next_look = float("inf")

    def hold(self, pid: int, name: str, most: int) -> None:
        """Limit ``pid`` and each of its descendants to ``most`` bytes from now on."""
        self._limits[pid] = (name, most)
        self._listed = float("-inf")
        self.next_look = time.monotonic()

    def over(self, name: str) -> int | None:
        """Return the limit in bytes that the process ``name`` was killed for, or None."""
        return self._over.get(name)

    def look(self, now: float) -> None:
        """Measure, if it is time to."""
        if now < self.next_look:
            return
        if now >= self._listed + LISTED:
            self._families, self._listed = processes.families(self._limits), now
            self._limits = {p: self._limits[p] for p, family in self._families.items() if family}
        room = float("inf")
        for root, (name, most) in list(self._limits.items()):
            for pid in self._families[root]:
                left = most - held(pid)
                if left < 0:
                    self._over[name] = most
                    # Pids are reused: signal only what is our descendant now.
                    mine = processes.descendants(os.getpid())
                    self._kill([p for p in (pid, root) if p in mine], signal.SIGKILL)
                    self._limits.pop(root, None)
                room = min(room, left)
        pause = max(SOONEST, min(LATEST, room / SPEED))
        self.next_look = now + pause if self._limits else float("inf")


def held(pid: int) -> int:
    """Return the bytes of memory that a process holds now; 0 for one that is gone."""
    try:
        with open("/proc/%d/status" % pid, "rb") as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0
    return sum(int(words[1]) << 10 for words in lines if words and words[0] in HELD)
