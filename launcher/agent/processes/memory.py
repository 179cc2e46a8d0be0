"""Holds processes to the memory of their roles where no control group does: by measuring."""

from __future__ import annotations

import os
import time

from ..base.lean import signal
from . import processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: Bytes a second that a process is thought to take at most, and the seconds between two looks: one at
#: whose end it may have reached its limit, but neither all the time nor hardly ever.
SPEED, SOONEST, LATEST = 2 << 30, 0.05, 1.0
#: Seconds between two looks at which processes there are: that is to read a file of each of this host.
LISTED = 1.0
#: What a process holds, as proc(5) calls it in /proc/PID/status. Not address space, which threads (8 MiB
#: each) and CUDA only reserve; nor mapped files, which the kernel can drop.
HELD = (b"RssAnon:", b"RssShmem:", b"VmSwap:")


class MemoryWatch:
    """Kills a process that holds more than its limit, or one below it, with the one that was limited.

    ``kill(pids, signal)`` does it. Each process counts by itself, as a limit of the kernel's would:
    pages that several share would be counted several times.
    """

    def __init__(self, kill: Callable[[Iterable[int], int], None] = processes.send) -> None:
        self._kill = kill
        self._limits: dict[int, tuple[str, int]] = {}  # of pids: name, bytes
        self._families: dict[int, list[int]] = {}
        self._listed = float("-inf")
        self._over: dict[str, int] = {}
        self.next_look = float("inf")

    def hold(self, pid: int, name: str, most: int) -> None:
        """From now on ``pid`` and what descends from it may hold ``most`` bytes each."""
        self._limits[pid] = (name, most)
        self._listed = float("-inf")
        self.next_look = time.monotonic()

    def over(self, name: str) -> int | None:
        """The limit in bytes for which the process ``name`` was killed, or None."""
        return self._over.get(name)

    def look(self, now: float) -> None:
        """Measures when it is time to."""
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
                    # Numbers are used again: only what is below us, and is so now.
                    mine = processes.descendants(os.getpid())
                    self._kill([p for p in (pid, root) if p in mine], signal.SIGKILL)
                    self._limits.pop(root, None)
                room = min(room, left)
        pause = max(SOONEST, min(LATEST, room / SPEED))
        self.next_look = now + pause if self._limits else float("inf")


def held(pid: int) -> int:
    """Bytes of memory that a process holds now; 0 for one that is gone."""
    try:
        with open("/proc/%d/status" % pid, "rb") as file:
            lines = [line.split() for line in file]
    except OSError:
        return 0
    return sum(int(words[1]) << 10 for words in lines if words and words[0] in HELD)
