"""Distinguishes CPU time that a process spends polling from work.

A process that spins without ever sleeping counts as working.
"""

from __future__ import annotations

import os
import time

from ..processes import processes

#: Most seconds of CPU time for a wake-up that only polls. Measured: Open MPI, which polls every
#: 0.1 ms while a peer is missing, needs 6 to 12 microseconds; 20 to 43 on a slow virtual machine.
WAKE = 30e-6
#: How many of this process's own wake-ups one may cost where even those are slow. Measured there: 16
#: to 59 microseconds each.
TIMES = 2.0
#: Most of one core that counts as polling, so that much work in small pieces still counts as work;
#: more where a wake-up may cost more, and never half of a core.
MOST, CEILING = 0.10, 0.50
#: So many own wake-ups are measured, of so many seconds of sleep: a few milliseconds in all.
NAPS, NAP = 20, 1e-4
#: Most bytes for each wake-up, read, written or mapped: more than that is work.
MOVED = 16


class Polling:
    """Looks closely at one process and its descendants while it uses little more than noise.

    ``noise`` is the part of a core that counts as idle anyway.
    """

    def __init__(self, noise: float) -> None:
        self._noise = noise
        self._looked: tuple[float, float] | None = None  # when, and the CPU time by then
        #: Wake-ups and bytes by then; None where they were not counted.
        self._counted: tuple[int, int] | None = None

    def spent(self, pid: int, now: float, cpu: float) -> float:
        """Return the seconds of CPU time since the last look that went into polling.

        ``cpu`` is what the process has used by ``now``. A process that uses much, or next to nothing,
        is not examined: that is most of them, and it means reading a file of each thread.
        """
        (then, before), self._looked = self._looked or (now, cpu), (now, cpu)
        used, passed = cpu - before, now - then
        wake = _most_of_a_wake() if self._noise / 2 * passed < used < CEILING * passed else 0.0
        most = MOST * wake / WAKE * passed
        if used >= self._noise * passed + most or not wake:
            self._counted = None
            return 0.0
        counted, self._counted = self._counted, _count(pid)
        if not (counted and self._counted):
            return 0.0
        wakes, moved = self._counted[0] - counted[0], self._counted[1] - counted[1]
        if moved > MOVED * wakes or moved < 0:
            return 0.0
        return min(used, wake * wakes, most)


def _most_of_a_wake() -> float:
    """Return the most seconds of CPU time of a wake-up that only polls, at the speed of this moment."""
    before = time.thread_time()
    for _ in range(NAPS):
        time.sleep(NAP)
    return max(WAKE, TIMES * (time.thread_time() - before) / NAPS)


def _count(root: int) -> tuple[int, int] | None:
    """Return ``(wake-ups, bytes moved)`` of a process and its descendants, or None if unreadable.

    From proc(5): /proc/PID/task/TID/status and /proc/PID/io; a page fault moves a page.
    """
    wakes = moved = 0
    page = os.sysconf("SC_PAGE_SIZE")
    for pid in [root] + processes.descendants(root):
        folder = "/proc/%d" % pid
        try:
            moved += sum(_numbers(folder + "/io", (b"rchar:", b"wchar:")))
            moved += page * sum(processes.faults(pid))
            for task in os.listdir(folder + "/task"):
                path = "%s/task/%s/status" % (folder, task)
                wakes += sum(_numbers(path, (b"voluntary_ctxt_switches:",)))
        except (OSError, ValueError):
            return None
    return wakes, moved


def _numbers(path: str, names: tuple[bytes, ...]) -> list[int]:
    with open(path, "rb") as file:
        found = [
            int(words[1]) for words in map(bytes.split, file) if words[:1] and words[0] in names
        ]
    if len(found) != len(names):
        raise ValueError(path)
    return found
