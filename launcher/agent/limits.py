"""Holds a process to the cores and the memory that its role was promised, as far as the host lets us.

Not responsible for who is promised what. Cores by affinity, memory by RLIMIT_DATA: what a process
writes to, mapped files left out, each process by itself. (RLIMIT_AS would count address space that is
only reserved, and CUDA reserves more than a machine has.)
"""

import os
import zlib


class Cores:
    """Hands out the cores of this host, those that others of the run do not have first."""

    def __init__(self, run_id):
        try:
            known = sorted(os.sched_getaffinity(0))
        except (AttributeError, OSError):
            known = []
        # Runs beside each other begin at different cores.
        start = zlib.crc32(run_id.encode()) % max(1, len(known))
        self._order = known[start:] + known[:start]
        self._given = 0

    def take(self, count):
        """``count`` cores, or all where there are no more."""
        if count >= len(self._order):
            return list(self._order)
        taken = [self._order[(self._given + n) % len(self._order)] for n in range(count)]
        self._given += count
        return sorted(taken)


def limit(wish, cores):
    """What a process will be held to, from ``{"cpus": n, "memory": bytes}``; None for nothing."""
    found = {}
    if wish.get("cpus"):
        found["cores"] = cores.take(wish["cpus"])
    if wish.get("memory"):
        found["memory"] = wish["memory"]
    return found or None


def in_words(found):
    """For the receipt: how it is held to what."""
    parts = []
    if found.get("cores"):
        parts.append("cores %s (affinity)" % ",".join(map(str, found["cores"])))
    if found.get("memory"):
        parts.append("%d MiB (RLIMIT_DATA of each process)" % (found["memory"] >> 20))
    return ", ".join(parts)


def hold(found):
    """Holds this process, and all that it will start, to its limits. Raises OSError, ValueError."""
    if found.get("cores"):
        os.sched_setaffinity(0, found["cores"])
    if found.get("memory"):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        most = found["memory"] if hard < 0 else min(hard, found["memory"])
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
