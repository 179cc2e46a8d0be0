"""The containers of a run on this host: starting, finding what is in them, and removing them.

A runtime's own programs (its client, podman's conmon) are not the run's: they end when what is in the
container has ended, and are left alone until then. Only runs in an image load this module.

::

    containers        which runtime, and the names: there as long as one may be left
    containers.fifo   held open by the supervisor; what is in a container ends when nobody does
    containers.codes/ the exit codes, as the first processes in the containers have seen them
"""

from __future__ import annotations

import os
import re
import time

from ..base.lean import signal
from ..host import podman_answers
from ..processes import container_list, containers, processes
from ..processes.containers import Contained

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.messages import ContainerSpec, ProcessSpec

#: A variable of a runtime's client, and of what that starts outside; containers do not get it.
_MARK = "LAUNCHER_CONTAINER"
#: In the folder of a run.
CODES = "containers.codes"
#: The exit code of podman and docker that have started nothing.
_REFUSED = 125


class Containers:
    """Those of one stage of a run, each with an image and a runtime of its own. Other processes may run
    beside them. The run's folder is the working directory."""

    def __init__(self, run_id: str, host: str, attempt: int) -> None:
        self._run_id, self._attempt = run_id, attempt
        self._stem = "launcher-%s-%s" % (run_id, re.sub(r"[^A-Za-z0-9_.-]", "_", host))
        #: Of containers that may be there, by key: how they were started, and their names.
        self._there: dict[str, tuple[ContainerSpec, str]] = {}
        self._names: set[bytes] = set()  # of all that there were
        self._marks: dict[str, bytes] = {}  # by key: what tells the first process of its container
        self._inner: dict[str, int] = {}
        self._root = ""  # launcher's folder here
        os.makedirs(CODES, exist_ok=True)
        self._held = _hold(container_list.FIFO)

    def launch(
        self, process: ProcessSpec, env: dict[str, str], login: dict[str, str]
    ) -> tuple[list[str], dict[str, str]]:
        """Return argv and environment of the client that starts a process with ``env`` in its image."""
        run_dir, key, spec = (
            process["env"]["LAUNCHER_RUN_DIR"],
            process["key"],
            process["container"],
        )
        self._root = os.path.dirname(os.path.dirname(run_dir))
        name = "%s-%d-%s" % (self._stem, self._attempt, key)
        self._there[key] = spec, name
        self._names.add(os.fsencode(name))
        container_list.write(self._there.values())
        try:
            os.unlink(self._code_file(key))  # of a setup before, in another image
        except OSError:
            pass
        stem = os.path.join(run_dir, "logs", "attempt-%d" % self._attempt, key)
        of_login: dict[str, str] = {
            one: login[one] for one in ("USER", "LOGNAME", "TMPDIR") if one in login
        }
        self._marks[key] = os.fsencode("\0%s.out\0" % stem)
        what = Contained(
            process["argv"],
            dict(of_login, **env),
            process["cwd"],
            process.get("path") or [],
            (
                stem + ".out",
                stem + ".err",
                os.path.join(run_dir, container_list.FIFO) if self._held is not None else "",
                os.path.join(run_dir, self._code_file(key)),
            ),
            "pipe" if process.get("stdin") else "",
        )
        label = "%s=%s" % (containers.LABEL, self._run_id)
        limits = {n: most for n, most in (process.get("limits") or {}).items() if most}
        argv, passed = containers.command(spec, what, name, label, limits)  # type: ignore[arg-type]
        own = containers.client_environment(spec, passed, login)
        if spec["runtime"] != containers.BWRAP:  # which passes on what it has
            own[_MARK] = name
        return argv, own

    def _code_file(self, key: str) -> str:
        return os.path.join(CODES, "%d-%s" % (self._attempt, key))

    def has(self, key: str) -> bool:
        """Return whether a process is in a container."""
        return key in self._there

    def inner(self, key: str, pid: int) -> int:
        """Return the first process in the container that a client, ``pid``, has started; else that."""
        return (self.first(key) or pid) if key in self._there else pid

    def first(self, key: str) -> int | None:
        """Return the first process in the container of a process; None before there is one."""
        mark = self._marks.get(key)  # with the run's folder: other runs have such processes, too
        if mark is None:
            return None
        known = self._inner.get(key)
        for pid in [known] if known else nested(processes.table()):
            try:
                with open("/proc/%d/cmdline" % pid, "rb") as file:
                    words = file.read(1 << 16)
            except OSError:
                continue
            if words.partition(b"\0launcher\0")[2][: 1 << 13].find(mark) >= 0:
                self._inner[key] = pid
                return pid
        self._inner.pop(key, None)
        return None

    def asked_of(self, key: str) -> list[int]:
        """Return whom to ask to stop in the container of a process; [] while its program has not begun,
        as what began behind that would not know of it."""
        first = self.first(key)
        if first is None:
            return []
        below = [pid for pid, (above, _, _) in processes.table().items() if above == first]
        if all(map(_ignores_sigterm, below)):
            return []
        return [first, *processes.descendants(first)]

    def pid_here(self, parent: int, number: int) -> int:
        """Return the child of a process that is called ``number`` in its namespace; else that."""
        for pid, (above, _, _) in processes.table().items():
            if above == parent and _numbers(pid)[-1:] == [number]:
                return pid
        return number

    def exit_code(self, key: str, code: int) -> int:
        """Return the exit code of a process whose client exited with ``code``: the client of a runtime
        that was killed has its own. One that exits as the process did has removed the container."""
        try:
            with open(self._code_file(key)) as file:
                inner = int(file.read())
        except (OSError, ValueError):
            if code == _REFUSED and key in self._there:
                podman_answers.forget(os.path.join(self._root, "images"))
            return code
        if inner == code:
            self._there.pop(key, None)
        return inner

    def ended(self, seconds: float) -> set[str]:
        """Return the keys of processes that have exited so many seconds ago."""
        found, before = set(), time.time() - seconds
        for key in self._there:
            try:
                if os.stat(self._code_file(key)).st_mtime < before:
                    found.add(key)
            except OSError:
                continue
        return found

    def programs(self, pids: Iterable[int], clients: Iterable[int]) -> list[int]:
        """Return those of the processes that are the run's: in a container, or beside all of them. The
        others are the ``clients`` of runtimes, and what these have started outside."""
        inside = set(nested(pids))
        parents = {pid: above for pid, (above, _, _) in processes.table().items()}
        known = dict.fromkeys(clients, True)
        own = os.getpid()

        def is_of_runtime(pid: int) -> bool:
            if pid not in known:
                known[pid] = self._is_marked(pid)
                above = parents.get(pid, own)
                if not known[pid] and above not in (0, 1, own):
                    known[pid] = is_of_runtime(above)
            return known[pid]

        return [pid for pid in pids if pid in inside or not is_of_runtime(pid)]

    def _is_marked(self, pid: int) -> bool:
        """Return whether a process has the name of a container: conmon among its arguments, and what a
        client has started and left alone in its environment."""
        try:
            with open("/proc/%d/cmdline" % pid, "rb") as file:
                if self._names.intersection(file.read(1 << 16).split(b"\0")):
                    return True
            with open("/proc/%d/environ" % pid, "rb") as file:
                return b"\0%s=" % os.fsencode(_MARK) in b"\0" + file.read(1 << 20)
        except OSError:
            return False

    def remove(self) -> None:
        """Remove what a runtime that was killed has left."""
        if self._held is not None:
            os.close(self._held)
        if not self._there:
            container_list.forget(".")
        else:
            container_list.end(".")


def _ignores_sigterm(pid: int) -> bool:
    """Return whether a process ignores SIGTERM, or is gone."""
    try:
        with open("/proc/%d/status" % pid, "rb") as file:
            for line in file:
                if line.startswith(b"SigIgn:"):
                    return bool(int(line.split()[1], 16) >> (signal.SIGTERM - 1) & 1)
    except (OSError, ValueError):
        pass
    return True


def _hold(fifo: str) -> int | None:
    """Make a fifo and hold it open; return None on a file system that has none."""
    try:
        if not os.path.exists(fifo):
            os.mkfifo(fifo, 0o600)
        return os.open(fifo, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None


def nested(pids: Iterable[int]) -> list[int]:
    """Return those of the processes that are in a process namespace below ours."""
    own, found = _depth("self"), []
    for pid in pids:
        if _depth(pid) > own:
            found.append(pid)
    return found


def _depth(pid: int | str) -> int:
    return len(_numbers(pid))


def _numbers(pid: int | str) -> list[int]:
    """Return the numbers of a process, ours first and that of its own namespace last."""
    try:
        with open("/proc/%s/status" % pid, "rb") as file:
            for line in file:
                if line.startswith(b"NSpid:"):
                    return [int(word) for word in line.split()[1:]]
    except (OSError, ValueError):
        pass
    return []
