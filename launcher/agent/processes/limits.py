"""Holds a process to the cores and the memory that its role was promised, as far as the host lets us.

By its control group where that has the controllers; else cores by affinity, memory by measuring
(memory.py). No limit of the kernel's on a process will do: they count what is only reserved.
"""

import os
import zlib

from . import cgroup


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


def limit(wish, cores, leaf=None):
    """What a process will be held to, from ``{"cpus": n, "memory": bytes}``; None for nothing.

    ``leaf`` is the control group that it will be in, with what that holds of the wish already.
    """
    found, holds = {}, leaf["holds"] if leaf else []
    if leaf:
        found.update(group=leaf["path"], by_group={name: wish[name] for name in holds})
    if wish.get("cpus") and "cpus" not in holds:
        found["cores"] = cores.take(wish["cpus"])
    if wish.get("memory") and "memory" not in holds:
        found["memory"] = wish["memory"]
    return found or None


def in_words(found):
    """For the receipt: how it is held to what."""
    parts, by_group = [], found.get("by_group", {})
    if by_group.get("cpus"):
        parts.append("cpus %d (cpu.max of its control group)" % by_group["cpus"])
    if by_group.get("memory"):
        parts.append("%d MiB (memory.max of its control group)" % (by_group["memory"] >> 20))
    if found.get("cores"):
        parts.append("cores %s (affinity)" % ",".join(map(str, found["cores"])))
    if found.get("memory"):
        parts.append("%d MiB (measured, each process)" % (found["memory"] >> 20))
    return ", ".join(parts)


def hold(found):
    """Holds this process, and all that it will start, to its limits. Raises OSError."""
    if found.get("group"):
        try:
            cgroup.join(found["group"])
        except OSError:
            if found[
                "by_group"
            ]:  # without limits there it is found by descent and mark all the same
                raise
    if found.get("cores"):
        os.sched_setaffinity(0, found["cores"])
