"""Holds a process to the cores and the memory that its role was promised, as far as the host lets us.

By its control group where that has the controllers; else cores by affinity, memory by measuring
(memory.py). No limit of the kernel's on a process will do: they count what is only reserved.
"""

from __future__ import annotations

import os
import zlib

from . import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    from ..base.messages import Limits
    from .cgroup import Leaf

    class Held(TypedDict, total=False):
        """How a process is held to its limits."""

        group: str
        by_group: dict[str, int]
        cores: list[int]
        memory: int


class Cores:
    """Hands out the cores of this host, those that others of the run do not have first."""

    def __init__(self, run_id: str) -> None:
        try:
            known = sorted(os.sched_getaffinity(0))
        except (AttributeError, OSError):
            known = []
        # Runs beside each other begin at different cores.
        start = zlib.crc32(run_id.encode()) % max(1, len(known))
        self._order = known[start:] + known[:start]
        self._given = 0

    def take(self, count: int) -> list[int]:
        """``count`` cores, or all where there are no more."""
        if count >= len(self._order):
            return list(self._order)
        taken = [self._order[(self._given + n) % len(self._order)] for n in range(count)]
        self._given += count
        return sorted(taken)


def limit(wish: Limits, cores: Cores, leaf: Leaf | None = None) -> Held | None:
    """What a process will be held to, from ``{"cpus": n, "memory": bytes}``; None for nothing.

    ``leaf`` is the control group that it will be in, with what that holds of the wish already.
    """
    found: Held = {}
    holds = leaf["holds"] if leaf else []
    if leaf:
        found["group"] = leaf["path"]
        found["by_group"] = {name: wish[name] for name in holds}
    if wish.get("cpus") and "cpus" not in holds:
        found["cores"] = cores.take(wish["cpus"])
    if wish.get("memory") and "memory" not in holds:
        found["memory"] = wish["memory"]
    return found or None


def in_words(found: Held) -> str:
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


def hold(found: Held) -> None:
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
