"""Keeps a Python that has imported modules for the next run, once the run of its supervisor is over.

Only descendants of a supervisor can be its ranks, so it is the supervisor's process that stays. It
executes another program (kept.py): nothing of the run is in the memory of that, nor is anything of it
open. What it needs to know comes in a file that has no name.
See docs/decisions/0088-kept-between-runs.md.
"""

from __future__ import annotations

import os
import sys
import time

from ...base import lean, local_sockets, protocol
from ...base.lean import Socket, prctl, socket
from ...processes import detached, inherited, processes
from . import places, rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ...base.messages import SupervisorSpec
    from ...processes.inherited import Inherited
    from .forking import Warm

#: What of the login's environment it has: nothing but these, until it gets that of the next login.
_VARIABLES = ("HOME", "LAUNCHER_LOCK_SCOPE", "PATH")
#: Most Pythons that wait for a run at a time, of one user: with one more, the one whose time is over
#: first ends.
MOST = 4
#: Seconds after an import until what was imported ends, however many runs have used it.
OLDEST = 86400.0
#: Seconds between the end of an attempt and of its run, where no other might have followed.
SHORT = 1.0


class Keeper:
    """A place, owned by this process from the start of its run on."""

    def __init__(self, place: str, lock: int, login: Inherited, own_hosts: bool) -> None:
        self.place, self.lock, self.login, self.own_hosts = place, lock, login, own_hosts
        self._listener: Socket | None = None
        self._log = -1
        self._warm: Warm | None = None
        self._opened = self._seconds = 0.0

    @staticmethod
    def is_too_old(warm: Warm) -> bool:
        """Return whether what was imported ends with this run."""
        return time.time() > warm.imported + OLDEST

    def open(self, warm: Warm, seconds: float) -> None:
        """Open all that it takes to wait for so many seconds. Raises OSError."""
        assert warm.asked is not None
        self._warm, self._opened, self._seconds = warm, time.time(), seconds
        if self._log < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            self._log = os.open(os.path.join(self.place, "keeper.log"), flags, 0o600)
        if not self._listener:
            self._listener = self._bound()
        places.write(self.place, self._about)

    def _bound(self) -> Socket:
        here = os.open(".", os.O_RDONLY | os.O_CLOEXEC)
        listener = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.chdir(self.place)  # the path of a socket has at most 107 bytes
            places.close(self.place)
            listener.bind(places.SOCKET)
            listener.listen(16)
        except OSError:
            listener.close()
            raise
        finally:
            os.fchdir(here)
            os.close(here)
        return listener

    def listen(self) -> None:
        """Have the next run find this process. Raises OSError."""
        assert self._warm is not None
        places.forget_code(self.place)
        now = time.time()
        if now > self._opened + SHORT:  # another attempt might have followed
            self._opened = now
            places.write(self.place, self._about)
        about = self._about
        self._warm.say("keeps %s for the next run, until %s" % (self._modules, self._end))
        there = list(places.waiting(self.root))
        replaced = [place for place, other in there if _same(other, about)]
        others = [place for place, _ in there if place not in replaced]
        places.show(self.place)
        for place in [*replaced, *others[MOST - 1 :]]:
            ask_to_end(place)

    @property
    def seconds(self) -> float:
        """For how long it waits once the run is over."""
        return round(self._until - self._opened, 3)

    @property
    def _until(self) -> float:
        assert self._warm is not None
        return min(self._opened + self._seconds, self._warm.imported + OLDEST)

    @property
    def _about(self) -> dict[str, Any]:
        assert self._warm is not None
        assert self._warm.asked is not None
        return {
            "modules": self._warm.asked.modules,
            "command": _script(self._warm.asked.argv),
            "since": time.time(),
            "until": self._until,
        }

    @property
    def root(self) -> str:
        """The folder that has the places."""
        return os.path.dirname(os.path.dirname(self.place))

    @property
    def _modules(self) -> str:
        assert self._warm is not None
        assert self._warm.asked is not None
        return ", ".join(self._warm.asked.modules)

    @property
    def _end(self) -> str:
        return time.strftime("%H:%M:%S", time.localtime(self._until))

    def close(self) -> None:
        """Leave nothing of the place."""
        places.remove(self.place)
        os.close(self.lock)

    def become(self) -> None:
        """Become the program that waits for the next run. Raises OSError where that fails."""
        assert self._listener is not None
        assert self._warm is not None
        pid, line, asked = self._warm.state()
        prctl(processes.PR_SET_CHILD_SUBREAPER, 1)
        state = os.memfd_create("launcher-kept")
        open_here = {state, line, self._listener.fileno(), self.lock}
        about = {
            "place": self.place,
            "pid": pid,
            "line": line,
            "listener": self._listener.fileno(),
            "lock": self.lock,
            "until": self._until,
            "login": self.login,
            "own_hosts": self.own_hosts,
            "imported": self._warm.imported,
            "asked": {
                "modules": asked.modules,
                "argv": asked.argv,
                "env": asked.env,
                "cwd": asked.cwd,
                "stacks": asked.stacks,
            },
        }
        os.write(state, lean.dumps(about).encode("ascii"))
        os.lseek(state, 0, os.SEEK_SET)
        os.chdir(self.place)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for number, fd in enumerate((null, self._log, self._log)):
            os.dup2(fd, number)
        detached.close_all(but=open_here)
        for fd in open_here:
            os.set_inheritable(fd, True)
        start = os.path.join(agent_folder(), "start.py")
        text = "(keeps %s for the next run, until %s)" % (self._modules, self._end)
        words = [sys.executable, "-I", "-S", start, "kept", str(state), text]
        env = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        os.execve(sys.executable, words, env)


def begun(spec: SupervisorSpec) -> Keeper | None:
    """Return the keeper of a new supervisor, if the run wants one. Raises OSError where it cannot be."""
    place = spec.get("place")
    if not place:
        return None
    lock = places.own(place)
    return Keeper(place, lock, inherited.inherited(), bool(spec.get("own_hosts")))


def apart(function: Callable[[], None]) -> None:
    """Call a function in a process that is no child of this one; nobody would wait for it here."""
    prctl(processes.PR_SET_CHILD_SUBREAPER, 0)
    pid = os.fork()
    if pid == 0:
        try:
            if os.fork() == 0:
                function()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def ask_to_end(place: str) -> None:
    """Ask the owner of a place to end; it is gone a moment later."""
    try:
        with local_sockets.connect(place, places.SOCKET) as line:
            line.sendall(protocol.encode({"op": "end"}))
    except OSError:
        pass  # it ends by itself


def _same(one: dict[str, object], other: dict[str, object]) -> bool:
    return all(one.get(name) == other[name] for name in ("modules", "command"))


def _script(argv: list[str]) -> str:
    """Return the script or ``-m module`` of a command."""
    known = rules.command(argv)
    words = known[1] if known else []
    return " ".join(words[-2:] if words[-2:-1] == ["-m"] else words[-1:])


def agent_folder() -> str:
    """Return the folder of the agent that this process runs, which is named by its contents."""
    return os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..", ".."))
