"""Limits a process to the cores and the memory of its role, as far as the host allows.

Its control group enforces them where that has the controllers; else cores are limited by affinity
and memory by measuring (memory.py). Not by setrlimit(2): that counts what is only reserved.
"""

from __future__ import annotations

import binascii
import os

from . import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from ..base.messages import Limits
    from .cgroup import Leaf

    class Held(TypedDict, total=False):
        """How a process is limited."""

        group: str
        by_group: dict[str, int]
        cores: list[int]
        memory: int


class Cores:
    """Hands out the cores of this host in turn, so that processes of a run share as few as possible."""

    def __init__(self, run_id: str) -> None:
        try:
            known = sorted(os.sched_getaffinity(0))
        except (AttributeError, OSError):
            known = []
        # Two runs on one host start at different cores.
        start = binascii.crc32(run_id.encode()) % max(1, len(known))
        self._order = known[start:] + known[:start]
        self._given = 0

    def take(self, count: int) -> list[int]:
        """Return ``count`` cores, or all if there are not as many."""
        if count >= len(self._order):
            return list(self._order)
        taken = [self._order[(self._given + n) % len(self._order)] for n in range(count)]
        self._given += count
        return sorted(taken)


def limit(wanted: Limits, cores: Cores, leaf: Leaf | None = None) -> Held | None:
    """Return how a process will be limited; None if not at all.

    ``leaf`` is the control group that it will be in, which enforces some of the ``wanted`` limits.
    """
    found: Held = {}
    holds = leaf["holds"] if leaf else []
    if leaf:
        found["group"] = leaf["path"]
        found["by_group"] = {name: wanted[name] for name in holds}
    if wanted.get("cpus") and "cpus" not in holds:
        found["cores"] = cores.take(wanted["cpus"])
    if wanted.get("memory") and "memory" not in holds:
        found["memory"] = wanted["memory"]
    return found or None


def in_words(found: Held) -> str:
    """Describe the limits and what enforces them, for the receipt."""
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


def hold(found: Held) -> None:
    """Apply the limits to this process and all that it will start. Raises OSError."""
    if found.get("group"):
        try:
            cgroup.join(found["group"])
        except OSError:
            # Without limits the group only helps to find the process, and there are other ways.
            if found["by_group"]:
                raise
    if found.get("cores"):
        os.sched_setaffinity(0, found["cores"])
