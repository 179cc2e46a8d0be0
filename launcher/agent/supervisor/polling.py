"""Tells CPU time that a process spends on asking again and again whether something has come, from work.

What spins without ever sleeping is work to it.
"""

from __future__ import annotations

import os

from ..processes import processes

#: Seconds of CPU time that a wake-up costs at most which only asks. Measured: Open MPI, which looks
#: every tenth of a millisecond while a peer is missing, 6 to 12 microseconds.
WAKE = 30e-6
#: The part of one core that can go into such wake-ups, so that small work in many pieces is still work.
MOST = 0.10
#: Bytes a wake-up, read, written or mapped: who moves more woke up for them.
MOVED = 16


class Polling:
    """Looks closely at one process, with all below it, while it uses little more than noise.

    ``noise`` is the part of a core that counts as idle anyway.
    """

    def __init__(self, noise: float) -> None:
        self._noise = noise
        self._looked: tuple[float, float] | None = None  # when, and the CPU time by then
        #: Wake-ups and bytes by then; None where nobody had to count.
        self._counted: tuple[int, int] | None = None

    def spent(self, pid: int, now: float, cpu: float) -> float:
        """Seconds of CPU time since the last look that went into polling; 0 for what works.

        ``cpu`` is what the process has used by ``now``. Nothing is counted for who uses much, or next
        to nothing: that is most looks, and it would mean to read a file of each thread.
        """
        (then, before), self._looked = self._looked or (now, cpu), (now, cpu)
        used, passed = cpu - before, now - then
        if not self._noise / 2 * passed < used < (self._noise + MOST) * passed:
            self._counted = None
            return 0.0
        counted, self._counted = self._counted, _count(pid)
        if not (counted and self._counted):
            return 0.0
        wakes, moved = self._counted[0] - counted[0], self._counted[1] - counted[1]
        if moved > MOVED * wakes or moved < 0:
            return 0.0
        return min(used, WAKE * wakes, MOST * passed)


def _count(root: int) -> tuple[int, int] | None:
    """``(times that it slept and woke up, bytes that it moved)``, or None where that cannot be seen.

    proc(5): /proc/PID/task/TID/status and /proc/PID/io; a fault is a page.
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
