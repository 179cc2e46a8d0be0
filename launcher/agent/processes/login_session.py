"""Knows the login session of systemd that this process stands in, and the way out of it.

Rules: logind.conf(5), loginctl(1), and systemd's "Control Group APIs and Delegation".
"""

from __future__ import annotations

import os
import time

from ..base import protocol
from ..base.lean import prctl
from . import cgroup, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Who stays up without a session, by name (loginctl(1), enable-linger).
LINGER = "/var/lib/systemd/linger"
#: Seconds for systemd to answer, and to have moved us.
PATIENCE = 5.0

_LOGIND = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
_MANAGER = [
    "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
]  # fmt: skip


def session(groups: str | None = None) -> str | None:
    """The scope of the session that this process belongs to, or None. ``groups`` is the text of
    /proc/self/cgroup."""
    groups = cgroup.read("/proc/self", "cgroup") or "" if groups is None else groups
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in path.split("/")[2:] if controllers in ("", "name=systemd") else ():
            if name.startswith("session-") and name.endswith(".scope"):
                return name
    return None


def survey() -> dict[str, Any] | None:
    """``{"session", "user", "kills", "lingers", "bus"}``: whether what this user's sessions leave
    behind is killed when they end, and what could be done about it; None outside of a session."""
    name = session()
    if not name:
        return None
    user = _user()
    return {
        "session": name,
        "user": user,
        "kills": kills(user),
        "lingers": _lingers(user),
        "bus": os.path.exists(_bus()),
    }


def kills(user: str) -> bool:
    """Whether logind kills what is left of a session of ``user`` when that ends."""
    names = ["KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers"]
    import re  # takes a while to import, and most hosts are not asked

    told = processes.output_of(["busctl", "--system", "get-property"] + _LOGIND + names, PATIENCE)
    lines = (told or "").splitlines()
    if len(lines) != len(names):
        return False
    only, never = (re.findall(r'"([^"]*)"', line) for line in lines[1:])
    if user in (never or ["root"]):
        return False
    return user in only if only else lines[0] == "b true"


def why_terminated() -> str:
    """Return the code of why this process was asked to end, as far as one can know."""
    name, user = session(), _user()
    own = cgroup.read("/proc/self", "cgroup") or ""
    if not name and "/user@" in own and not _lingers(user):
        return protocol.LOGIN_SESSION_ENDED  # who stayed behind there was killed
    if name and kills(user):
        number = name[len("session-") : -len(".scope")]
        argv = ["loginctl", "show-session", number, "--property=State", "--value"]
        if (processes.output_of(argv, PATIENCE) or "").strip() in ("", "closing"):
            return protocol.LOGIN_SESSION_ENDED
    return protocol.SUPERVISOR_TERMINATED


class Refuge:
    """A scope of the user's own service manager, where a process stays when its session has ended.

    Groups below it are ours to make, and have controllers, as in a session they are not. The manager
    itself goes with the last session unless the user lingers; so somebody stays behind in ours, which
    then goes on for as long as it is not killed.
    """

    def __init__(self) -> None:
        self.pids: set[int] = set()  # who stays behind
        self._hold: int | None = None
        self._tried = False

    def seek(self, name: str, wanted: set[str]) -> None:
        """Moves this process there, once, where that helps: for ``wanted`` controllers, or because
        the session's end would kill it. ``name`` is the scope's, without its suffix."""
        if self._tried or not session() or not os.path.exists(_bus()):
            return
        user = _user()
        gain = os.geteuid() != 0 and wanted & _delegated()
        if not gain and not (_lingers(user) and kills(user)):
            return
        self._tried = True
        self._stay_behind()
        if not _move(name + ".scope", wanted):
            self.close()

    def reaped(self, pid: int) -> bool:
        """Whether it was one of ours."""
        found = pid in self.pids
        self.pids.discard(pid)
        return found

    def close(self) -> None:
        """Nobody stays behind any longer."""
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def _stay_behind(self) -> None:
        hold, self._hold = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                processes.forget_handlers()  # the end of the session is no word to our parent
                prctl(processes.PR_SET_PDEATHSIG, 9)
                # Locks and sockets are not held by one who does nothing with them.
                os.closerange(0, hold)
                os.closerange(hold + 1, 1024)
                os.read(hold, 1)  # nothing comes: it closes
            finally:
                os._exit(0)
        os.close(hold)
        self.pids.add(pid)


def _user() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _lingers(user: str) -> bool:
    return os.path.exists(os.path.join(LINGER, user))


def _bus() -> str:
    return "/run/user/%d/bus" % os.getuid()


def _delegated() -> set[str]:
    """The controllers that the user's manager has, which stands beside our session."""
    name = "user@%d.service" % os.getuid()
    found = set()
    for chain in cgroup.own_groups():
        place = os.path.join(os.path.dirname(chain[0]), name)
        found.update((cgroup.read(place, "cgroup.controllers") or "").split())
    return found


def _move(scope: str, wanted: set[str]) -> bool:
    """Whether we are in ``scope``, in a group that leaves its controllers to others."""
    properties = ["PIDs", "au", "1", str(os.getpid()), "Delegate", "b", "true"]
    # The manager's own default is a share of what the user may have; a session has no limit.
    properties += ["TasksMax", "t", str(2**64 - 1), "CollectMode", "s", "inactive-or-failed"]
    env = dict(os.environ, XDG_RUNTIME_DIR=os.path.dirname(_bus()))
    env.pop("DBUS_SESSION_BUS_ADDRESS", None)
    call = ["StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "fail", "4"] + properties + ["0"]
    if processes.output_of(["busctl", "--user", "call"] + _MANAGER + call, PATIENCE, env) is None:
        return False
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:  # it answers before it has done so
        for chain in cgroup.own_groups():
            if os.path.basename(chain[0]) == scope:
                return _settle(chain[0], wanted)
        time.sleep(0.01)
    return False


def _settle(scope: str, wanted: set[str]) -> bool:
    """A group with processes in it cannot hand controllers down: we go into one beside them."""
    own = os.path.join(scope, "agent")
    try:
        os.mkdir(own)
        cgroup.join(own)
    except OSError:
        return False
    for controller in wanted:
        cgroup.write(scope, "cgroup.subtree_control", "+" + controller)
    return True
