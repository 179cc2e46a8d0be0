"""Starts the processes of a run on this host, collects their exits, and signals what is left."""

from __future__ import annotations

import os

from ..base import protocol
from ..base.lean import signal
from ..processes import processes
from ..processes.limits import Cores, in_words, limit
from ..processes.ownership import Owned
from . import errorfile
from .environment import environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from ..base.messages import (
        Message,
        ProcessSpec,
        StartRequest,
    )
    from .contained import Containers
    from .warm.forking import Warm

    class Helper(Protocol):
        """An object with processes of the supervisor's own, which do not belong to the run."""

        @property
        def pids(self) -> set[int]: ...

        def reaped(self, pid: int) -> bool: ...


#: Seconds that a container runtime gets to end by itself behind what was in its containers.
ENDING = 3.0
#: Seconds between two looks at it.
LOOK = 1.0


class Child:
    """A started process: its key, its rank, the file for its error report, and whether it reads the
    user's stdin."""

    def __init__(self, key: str, rank: int | None, error_file: str | None, reads: bool) -> None:
        self.key, self.rank, self.error_file, self.reads = key, rank, error_file, reads


class Children:
    """The processes of a run on this host; those of ``helpers`` do not count.

    The ones ``before`` are those of an earlier attempt that this process has looked after.
    """

    def __init__(
        self, run_id: str, host: str, helpers: list[Helper], before: Children | None = None
    ) -> None:
        self.owned: Owned = Owned(run_id, host, before.owned.scope if before else None)
        self.helpers: list[Helper] = helpers
        self.helpers += [one for one in before.helpers if one.pids] if before else []
        self.path = os.defpath  # their PATH
        self._run_id = run_id
        self._cores = Cores(run_id)
        self._env: dict[str, str] = {}
        self._attempt = 0
        self._known: dict[int, Child] = {}
        self._asked: set[int] = set()  # to stop, in this stage
        self._secrets: dict[str, str] = {}
        self.containers: Containers | None = None  # of a stage with processes in images
        self.next_look = float("inf")
        self._late: set[str] = set()  # keys: to ask once their containers are there
        self._ending_by = 0.0  # when their runtime has had its time to end

    def prepare(self, request: StartRequest) -> None:
        """Make ready for the processes of a stage."""
        self._attempt, self._asked = request["attempt"], set()
        self._late, self._ending_by = set(), 0.0
        self._env, self._secrets = environment(request), dict(request.get("secrets") or {})
        self.contain(any(process.get("container") for process in request["processes"]))
        self.path = self._env["PATH"]
        os.makedirs(os.path.join("logs", "attempt-%d" % self._attempt), exist_ok=True)
        self._cores = Cores(self._run_id)
        self.owned.prepare([process.get("limits") or {} for process in request["processes"]])

    def contain(self, has_images: bool) -> None:
        """Be ready to start processes in images, or not; remove containers that are left."""
        if self.containers:
            self.containers.remove()
        self.containers, self.next_look = None, float("inf")
        if has_images:
            self.next_look = 0.0
            from .contained import Containers  # most runs are in none

            self.containers = Containers(self._run_id, self.owned.host, self._attempt)

    def start(
        self, process: ProcessSpec, env: dict[str, str], warm: Warm | None = None
    ) -> tuple[int, str]:
        """Start a process with ``env`` added; return its pid and a description of its limits.

        It is forked from ``warm`` where that is possible. Raises OSError when it cannot be executed: its
        log says why then.
        """
        key, wanted = process["key"], process.get("limits") or {}
        stem = os.path.join("logs", "attempt-%d" % self._attempt, key)
        held = limit(wanted, self._cores, self.owned.leaf(self._leaf(key), wanted))
        error_file = errorfile.prepare(process["env"])
        argv = process["argv"]
        if self.containers and process.get("container"):
            argv, env = self.containers.launch(process, env, self._env)
        else:
            env = {**self._env, **env, "PATH": self.path}
        launch = processes.Launch(argv, env, process["cwd"], held)
        try:
            reads = bool(process.get("stdin"))
            stdin = os.path.abspath(protocol.STDIN) if reads else os.devnull
            out, err = stem + ".out", stem + ".err"
            forked = warm.start(launch, held, out, err) if warm and not reads else None
            pid = forked or processes.start(launch, out, err, stdin)
        except OSError as error:
            with open(stem + ".err", "a") as file:
                file.write("launcher: cannot start %s: %s\n" % (launch.argv[0], error.strerror))
            raise
        self._known[pid] = Child(key, process.get("rank"), error_file, reads)
        self.owned.started(pid, self._leaf(key), held)
        return pid, in_words(held or {})

    def environment(self, process: ProcessSpec) -> dict[str, str]:
        """Return the environment of a process: this host's and its own. An image brings its own."""
        if process.get("container"):
            return {**self._secrets, **process["env"]}
        return {**self._env, **process["env"]}

    def exits(self) -> Iterator[tuple[Child, int]]:
        """Yield the processes that have exited, with their exit codes."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if self.owned.reaped(pid) or any(helper.reaped(pid) for helper in self.helpers):
                continue
            if pid in self._known:
                child, code = self._known.pop(pid), processes.exit_code(status)
                self._late.discard(child.key)
                yield child, self.containers.exit_code(child.key, code) if self.containers else code

    def evidence(self, child: Child, code: int) -> Message:
        """Return what explains an exit: the process's error report, and a kill for memory."""
        error = errorfile.read(child.error_file) if code else None
        return dict({"error": error} if error else {}, **self.lack_of_memory(child.key, code))

    def lack_of_memory(self, key: str, code: int) -> Message:
        """Return what is known about a kill for memory, if this exit may be one."""
        killed = code in processes.KILLED
        return self.owned.killed_for_memory(self._leaf(key)) if killed else {}

    def left(self) -> list[int]:
        """Return all pids of the run here, without those of our helpers."""
        return self.owned.find({pid for helper in self.helpers for pid in helper.pids})

    def ask(self, pids: list[int]) -> None:
        """Send SIGTERM to each of these that has not got it yet. What is in containers gets it, and
        their runtime does not: it ends behind them."""
        if self.containers:
            keys = {child.key for child in self._known.values() if self.containers.has(child.key)}
            self._late = {key for key in keys if not self.containers.asked_of(key)}
            firsts = filter(None, map(self.containers.first, self._late))
            late = {pid for first in firsts for pid in (first, *processes.descendants(first))}
            pids = [pid for pid in self._programs(pids) if pid not in late]
        self._ask(pids)

    def _ask(self, pids: list[int]) -> None:
        self.owned.ask([pid for pid in pids if pid not in self._asked])
        processes.send(pids, signal.SIGCONT)  # a stopped process gets SIGTERM when it continues
        self._asked.update(pids)

    def look(self, now: float) -> None:
        """Ask what has begun in containers that were only being made when it was time, and end a
        runtime that does not notice the end of what it has started."""
        for key in [*self._late] if self.containers else ():
            asked = self.containers.asked_of(key) if self.containers else []
            if asked:
                self._late.discard(key)
                self._ask(asked)
        if self.containers and now >= self.next_look:
            self.next_look = now + LOOK
            ended = self.containers.ended(ENDING)
            stuck = [pid for pid, child in self._known.items() if child.key in ended]
            processes.send(stuck, signal.SIGKILL)

    def _programs(self, pids: list[int]) -> list[int]:
        """Return those of these that are no runtime's of containers."""
        if not self.containers:
            return pids
        clients = [pid for pid, child in self._known.items() if self.containers.has(child.key)]
        return self.containers.programs(pids, clients)

    def kill(self, pids: list[int]) -> None:
        """Kill these and the rest of the run's control group. Where there are containers, their runtime
        comes last, so that it can tidy up."""
        programs = self._programs(pids)
        if 0 < len(programs) < len(pids):
            processes.send(programs, signal.SIGKILL)
        else:
            self.owned.kill(pids)
        self._asked.update(pids)

    def only_ending(self, pids: list[int], now: float) -> bool:
        """Return whether all of these only tidy up behind the others, and still have time for it."""
        programs = self._programs(pids)
        if not programs:
            self._ending_by = self._ending_by or now + ENDING
            return now < self._ending_by
        return self.owned.only_cleaning(programs)

    def _leaf(self, key: str) -> str:
        return "%d-%s" % (self._attempt, key)
