"""Finds the processes of a run on this host: by descent, by environment and by control group."""

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

#: Seconds for processes that clean up after the others, once those are gone: torch's waits two before
#: it starts (SHUTDOWN_TIMEOUT in its libshm/manager.cpp).
CLEANING = 4.0


class Owned:
    """The processes, control group and shared memory of a run. Its folder is the working directory."""

    def __init__(
        self, run_id: str, host: str, scope: login_session.UserScope | None = None
    ) -> None:
        self._run_id, self.host = run_id, host
        self._groups = cgroup.of(".")
        self._group: cgroup.Group | None = None
        self.scope = scope or login_session.UserScope()
        self._memory, self._shared = MemoryWatch(), SharedMemory(time.monotonic())
        self._spared_until: float | None = None
        self._kills = self._memory_kills()
        self.scanned = self.unreadable = 0

    def prepare(self, limits: list[Limits]) -> None:
        """Make a control group for processes with these limits, where this host allows one."""
        asked = {name for each in limits for name, most in each.items() if most}
        wanted = {c for name, c in (("cpus", "cpu"), ("memory", "memory")) if name in asked}
        self._spared_until = None
        self.scope.seek(cgroup.name_of(".", self._run_id, self.host), wanted)
        try:
            self._group = cgroup.make(".", self._run_id, self.host, wanted)
        except OSError:  # a full disk: no group, because its name could not be written down
            self._group = None
        self._groups = cgroup.of(".")
        self._kills = self._memory_kills()

    def leaf(self, name: str, wanted: Limits) -> Leaf | None:
        """Make a group for one process, as :meth:`cgroup.Group.leaf` does, or return None."""
        return self._group.leaf(name, wanted) if self._group else None

    def started(self, pid: int, name: str, held: Held | None) -> None:
        """Note that the process ``name`` was started with these limits."""
        if held and held.get("memory"):
            self._memory.hold(pid, name, held["memory"])

    @property
    def next_look(self) -> float:
        """The moment to :meth:`look` again."""
        return min(self._memory.next_look, self._shared.next_look)

    def look(self, now: float) -> None:
        """Measure memory and note shared memory, where it is time to."""
        self._memory.look(now)
        if now >= self._shared.next_look:
            self._shared.look(now, processes.descendants(os.getpid()))

    def reaped(self, pid: int) -> bool:
        """Return whether ``pid`` was a helper of ours."""
        return self.scope.reaped(pid)

    def find(self, helpers: set[int]) -> list[int]:
        """Return all pids of the run here without ``helpers``: our descendants, processes with the
        run's environment, and those in its group."""
        marked, self.scanned, self.unreadable = processes.marked(self._run_id, self.host)
        grouped = [pid for group in self._groups for pid in group.pids()]
        descended = processes.descendants(os.getpid())
        return sorted({*descended, *marked, *grouped} - {os.getpid()} - helpers - self.scope.pids)

    def ask(self, pids: list[int]) -> None:
        """Send SIGTERM to these, but not to those that clean up: they exit after the others."""
        self._shared.look(time.monotonic(), pids)  # their maps are gone when they are
        waiting = cleaners(pids)
        processes.send([pid for pid in pids if pid not in waiting], signal.SIGTERM)

    def only_cleaning(self, pids: list[int]) -> bool:
        """Return whether all of these only clean up, and still have time for it."""
        return only_cleaners(pids) and self._sparing()

    def _sparing(self) -> bool:
        now = time.monotonic()
        self._spared_until = self._spared_until or now + CLEANING
        return now < self._spared_until

    def kill(self, pids: list[int]) -> None:
        """Kill these and the rest of the group; those that clean up only after ``CLEANING`` s."""
        self._shared.look(time.monotonic(), pids)
        waiting = cleaners(pids)
        if waiting and self._sparing():
            processes.send([pid for pid in pids if pid not in waiting], signal.SIGKILL)
            return
        for group in self._groups:
            group.kill()
        processes.send(pids, signal.SIGKILL)

    def killed_for_memory(self, name: str) -> dict[str, Any]:
        """Return ``{"oom": True}`` if memory ran out, with the ``limit`` in bytes where the process
        ``name`` exceeded its own; else ``{}``."""
        limit = self._memory.over(name)
        if limit is None and self._group:
            limit = self._group.over_memory(name)
        if limit is not None:
            return {"oom": True, "limit": limit}
        return {"oom": True} if self.lost_one_for_memory() else {}

    def lost_one_for_memory(self) -> bool:
        """Return whether the kernel has killed a process because memory ran out since the start.

        Counts those of the run where its group does, else any of this host.
        """
        kills = self._memory_kills()
        return kills is not None and self._kills is not None and kills > self._kills

    def _memory_kills(self) -> int | None:
        counted = self._group.oom_kills() if self._group else None
        return processes.out_of_memory_kills() if counted is None else counted

    def close(self, left: list[int], stays: bool = False) -> dict[str, Any]:
        """Free what the run holds, with ``left`` still running; return the fields of the journal.

        A process that ``stays`` for the next attempt keeps its scope.
        """
        removed = [] if left else self._shared.remove()
        if not left:
            cgroup.close(".")
            if not stays:
                self.scope.close()
        return {
            "scanned": self.scanned,
            "unreadable": self.unreadable,
            "left": len(left),
            "removed": removed,
        }
