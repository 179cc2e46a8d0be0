"""Knows which processes of this host are the run's, by descent, by mark and by control group."""

from __future__ import annotations

import os
import time

from ..base.lean import signal
from . import cgroup, login_session, processes
from .memory import MemoryWatch
from .shared_memory import SharedMemory, cleaners, only_cleaners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import Limits
    from .cgroup import Leaf
    from .limits import Held

#: Seconds that processes have which clean up after the others, once those were killed or are gone:
#: torch's waits for two before it does (SHUTDOWN_TIMEOUT in its libshm/manager.cpp).
CLEANING = 4.0


class Owned:
    """What a supervisor, which stands in the folder of its run, has to answer for."""

    def __init__(self, run_id: str, host: str) -> None:
        self._run_id, self._host = run_id, host
        self._groups = cgroup.of(".")
        self._group: cgroup.Group | None = None
        self._refuge = login_session.Refuge()
        self._memory, self._shared = MemoryWatch(), SharedMemory(time.monotonic())
        self._spared_until: float | None = None
        self._kills = self._memory_kills()
        self.scanned = self.unreadable = 0

    def prepare(self, wishes: list[Limits]) -> None:
        """Makes the control group, where this host gives one, for processes with these limits."""
        asked = {name for wish in wishes for name, most in wish.items() if most}
        wanted = {c for name, c in (("cpus", "cpu"), ("memory", "memory")) if name in asked}
        self._spared_until = None
        self._refuge.seek(cgroup.name_of(".", self._run_id, self._host), wanted)
        try:
            self._group = cgroup.make(".", self._run_id, self._host, wanted)
        except OSError:  # a full disk: nothing is made that would not be found again
            self._group = None
        self._groups = cgroup.of(".")
        self._kills = self._memory_kills()

    def leaf(self, name: str, wish: Limits) -> Leaf | None:
        """A group for one process, as :meth:`cgroup.Group.leaf` has it, or None."""
        return self._group.leaf(name, wish) if self._group else None

    def started(self, pid: int, name: str, held: Held | None) -> None:
        """A process ``name`` of the run that is held to this, as limits.py says it."""
        if held and held.get("memory"):
            self._memory.hold(pid, name, held["memory"])

    @property
    def next_look(self) -> float:
        """When to :meth:`look` again."""
        return min(self._memory.next_look, self._shared.next_look)

    def look(self, now: float) -> None:
        """Measures what has to be measured."""
        self._memory.look(now)
        if now >= self._shared.next_look:
            self._shared.look(now, processes.descendants(os.getpid()))

    def reaped(self, pid: int) -> bool:
        """Whether it was a helper of ours, now gone."""
        return self._refuge.reaped(pid)

    def find(self, helpers: set[int]) -> list[int]:
        """All pids of the run here but these: what descends from us, carries its mark, or is in its
        group."""
        marked, self.scanned, self.unreadable = processes.marked(self._run_id, self._host)
        grouped = [pid for group in self._groups for pid in group.pids()]
        descended = processes.descendants(os.getpid())
        return sorted({*descended, *marked, *grouped} - {os.getpid()} - helpers - self._refuge.pids)

    def ask(self, pids: list[int]) -> None:
        """Asks these to end, but not those that clean up after others: they end when those have."""
        self._shared.look(
            time.monotonic(), pids
        )  # what they hold is known no more when they are gone
        waiting = cleaners(pids)
        processes.send([pid for pid in pids if pid not in waiting], signal.SIGTERM)

    def only_cleaning(self, pids: list[int]) -> bool:
        """Whether these do nothing else, and still have time for it."""
        return only_cleaners(pids) and self._sparing()

    def _sparing(self) -> bool:
        now = time.monotonic()
        self._spared_until = self._spared_until or now + CLEANING
        return now < self._spared_until

    def kill(self, pids: list[int]) -> None:
        """Kills these, and whatever else is in the group by then; a moment later what cleans up."""
        self._shared.look(time.monotonic(), pids)
        waiting = cleaners(pids)
        if waiting and self._sparing():
            processes.send([pid for pid in pids if pid not in waiting], signal.SIGKILL)
            return
        for group in self._groups:
            group.kill()
        processes.send(pids, signal.SIGKILL)

    def killed_for_memory(self, name: str) -> dict[str, Any]:
        """What is known of a kill for want of memory, where one was: ``{"oom": True}``, and ``limit``
        in bytes where it was for that of the process ``name``."""
        limit = self._memory.over(name)
        if limit is None and self._group:
            limit = self._group.over_memory(name)
        if limit is not None:
            return {"oom": True, "limit": limit}
        return {"oom": True} if self.lost_one_for_memory() else {}

    def lost_one_for_memory(self) -> bool:
        """Whether the kernel has killed a process for want of memory since the start: one of the run
        where its group counts them, else any of this host."""
        kills = self._memory_kills()
        return kills is not None and self._kills is not None and kills > self._kills

    def _memory_kills(self) -> int | None:
        counted = self._group.oom_kills() if self._group else None
        return processes.out_of_memory_kills() if counted is None else counted

    def close(self, left: list[int]) -> dict[str, Any]:
        """The run is over, and these are ``left`` of it. Returns what the journal tells of that."""
        removed = [] if left else self._shared.remove()
        if not left:
            cgroup.close(".")
            self._refuge.close()
        looked = {"scanned": self.scanned, "unreadable": self.unreadable}
        return dict(looked, left=len(left), removed=removed)
