"""Starts the processes of a run on this host, collects their exits, and signals what is left."""

from __future__ import annotations

import os

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

    from ..base.messages import Message, PreloadRequest, ProcessSpec, StartRequest
    from .warm import Warm

    class Helper(Protocol):
        """An object with processes of the supervisor's own, which do not belong to the run."""

        @property
        def pids(self) -> set[int]: ...

        def reaped(self, pid: int) -> bool: ...


class Child:
    """A started process: its key, its rank, and the file for its error report."""

    def __init__(self, key: str, rank: int | None, error_file: str | None) -> None:
        self.key, self.rank, self.error_file = key, rank, error_file


class Children:
    """The processes of a run on this host; those of ``helpers`` do not count."""

    def __init__(self, run_id: str, host: str, helpers: list[Helper]) -> None:
        self.owned = Owned(run_id, host)
        self.helpers = helpers
        self.path = os.defpath  # their PATH
        self._run_id = run_id
        self._cores = Cores(run_id)
        self._env: dict[str, str] = {}
        self._attempt = 0
        self._known: dict[int, Child] = {}
        self._asked: set[int] = set()  # to stop, in this stage

    def prepare(self, request: StartRequest) -> None:
        """Make ready for the processes of a stage."""
        self._attempt, self._asked = request["attempt"], set()
        self._env = environment(request)
        self.path = self._env["PATH"]
        os.makedirs(os.path.join("logs", "attempt-%d" % self._attempt), exist_ok=True)
        self._cores = Cores(self._run_id)
        self.owned.prepare([process.get("limits") or {} for process in request["processes"]])

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
        env = {**self._env, **env, "PATH": self.path}
        launch = processes.Launch(process["argv"], env, process["cwd"], held)
        try:
            forked = warm.start(launch, held, stem + ".out", stem + ".err") if warm else None
            pid = forked or processes.start(launch, stem + ".out", stem + ".err")
        except OSError as error:
            with open(stem + ".err", "a") as file:
                file.write("launcher: cannot start %s: %s\n" % (launch.argv[0], error.strerror))
            raise
        self._known[pid] = Child(key, process.get("rank"), error_file)
        self.owned.started(pid, self._leaf(key), held)
        return pid, in_words(held or {})

    def environment(self, process: ProcessSpec) -> dict[str, str]:
        """Return the environment of a process: this host's and its own."""
        return {**self._env, **process["env"]}

    def early_environment(self, request: PreloadRequest) -> dict[str, str]:
        """Return the environment that the processes of the next stage will have."""
        found = environment(request)
        return {**found, **request["process"]["env"], "PATH": found["PATH"]}

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
                yield self._known.pop(pid), processes.exit_code(status)

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
        """Send SIGTERM to each of these that has not got it yet."""
        self.owned.ask([pid for pid in pids if pid not in self._asked])
        processes.send(pids, signal.SIGCONT)  # a stopped process gets SIGTERM when it continues
        self._asked.update(pids)

    def kill(self, pids: list[int]) -> None:
        """Kill these and the rest of the run's control group."""
        self.owned.kill(pids)
        self._asked.update(pids)

    def _leaf(self, key: str) -> str:
        return "%d-%s" % (self._attempt, key)
