"""The systemd login session of this process: whether its end kills processes, and how to leave it.

The rules are those of logind.conf(5), loginctl(1) and systemd's "Control Group APIs and Delegation".
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

#: Names of the users whose processes survive their sessions (loginctl(1), enable-linger).
LINGER = "/var/lib/systemd/linger"
#: Seconds for systemd to answer, and to move us.
PATIENCE = 5.0

_LOGIND = ["org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager"]
_MANAGER = [
    "org.freedesktop.systemd1",
    "/org/freedesktop/systemd1",
    "org.freedesktop.systemd1.Manager",
]


def session(groups: str | None = None) -> str | None:
    """Return the scope of this process's session, or None.

    ``groups`` is the text of /proc/self/cgroup.
    """
    groups = cgroup.read("/proc/self", "cgroup") or "" if groups is None else groups
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        for name in path.split("/")[2:] if controllers in ("", "name=systemd") else ():
            if name.startswith("session-") and name.endswith(".scope"):
                return name
    return None


def survey() -> dict[str, Any] | None:
    """Return ``{"session", "user", "kills", "lingers", "bus"}``; None outside of a session.

    ``kills``: whether logind kills what this user's sessions leave behind. ``lingers`` and ``bus``
    decide what can be done about it.
    """
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
    """Return whether logind kills what is left of a session of ``user`` when it ends."""
    names = ["KillUserProcesses", "KillOnlyUsers", "KillExcludeUsers"]
    import re  # slow to import, and rarely needed

    output = processes.output_of(["busctl", "--system", "get-property"] + _LOGIND + names, PATIENCE)
    lines = (output or "").splitlines()
    if len(lines) != len(names):
        return False
    only, never = (re.findall(r'"([^"]*)"', line) for line in lines[1:])
    if user in (never or ["root"]):
        return False
    return user in only if only else lines[0] == "b true"


def why_terminated() -> str:
    """Return the code of why this process got SIGTERM, as far as that can be known."""
    name, user = session(), _user()
    own = cgroup.read("/proc/self", "cgroup") or ""
    if not name and "/user@" in own and not _lingers(user):
        return protocol.LOGIN_SESSION_ENDED  # the placeholder in the session was killed
    if name and kills(user):
        number = name[len("session-") : -len(".scope")]
        argv = ["loginctl", "show-session", number, "--property=State", "--value"]
        if (processes.output_of(argv, PATIENCE) or "").strip() in ("", "closing"):
            return protocol.LOGIN_SESSION_ENDED
    return protocol.SUPERVISOR_TERMINATED


class UserScope:
    """A scope of the user's own service manager, where a process survives the end of its session.

    There, unlike in a session, we may make groups, and they have controllers. The manager exits with
    the user's last session, unless the user lingers; so a placeholder process stays behind in ours,
    which keeps it open until the placeholder is killed.
    """

    def __init__(self) -> None:
        self.pids: set[int] = set()  # the placeholder
        self._hold: int | None = None
        self._tried = False

    def seek(self, name: str, wanted: set[str]) -> None:
        """Move this process there, once, where that helps: for ``wanted`` controllers, or because
        the end of the session would kill it. ``name`` is the scope's, without its suffix."""
        if self._tried or not session() or not os.path.exists(_bus()):
            return
        user = _user()
        gain = os.geteuid() != 0 and wanted & _delegated()
        if not gain and not (_lingers(user) and kills(user)):
            return
        self._tried = True
        self._start_placeholder()
        if not _move(name + ".scope", wanted):
            self.close()

    def reaped(self, pid: int) -> bool:
        """Return whether ``pid`` was the placeholder, and forget it."""
        found = pid in self.pids
        self.pids.discard(pid)
        return found

    def close(self) -> None:
        """Let the placeholder exit."""
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None

    def _start_placeholder(self) -> None:
        hold, self._hold = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                processes.forget_handlers()  # the end of the session must not reach the supervisor
                prctl(processes.PR_SET_PDEATHSIG, 9)
                os.closerange(0, hold)  # its locks and sockets
                os.closerange(hold + 1, 1024)
                os.read(hold, 1)  # returns when the supervisor closes the pipe
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
    """Return the controllers of the user's service manager, whose group is beside our session's."""
    name = "user@%d.service" % os.getuid()
    found = set()
    for chain in cgroup.own_groups():
        place = os.path.join(os.path.dirname(chain[0]), name)
        found.update((cgroup.read(place, "cgroup.controllers") or "").split())
    return found


def _move(scope: str, wanted: set[str]) -> bool:
    """Move this process into a new ``scope``; return whether it is there, with ``wanted`` enabled."""
    properties = ["PIDs", "au", "1", str(os.getpid()), "Delegate", "b", "true"]
    # No limit, as in a session: the manager's default is a share of the user's.
    properties += ["TasksMax", "t", str(2**64 - 1), "CollectMode", "s", "inactive-or-failed"]
    env = dict(os.environ, XDG_RUNTIME_DIR=os.path.dirname(_bus()))
    env.pop("DBUS_SESSION_BUS_ADDRESS", None)
    call = ["StartTransientUnit", "ssa(sv)a(sa(sv))", scope, "fail", "4"] + properties + ["0"]
    if processes.output_of(["busctl", "--user", "call"] + _MANAGER + call, PATIENCE, env) is None:
        return False
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:  # busctl returns before we are moved
        for chain in cgroup.own_groups():
            if os.path.basename(chain[0]) == scope:
                return _settle(chain[0], wanted)
        time.sleep(0.01)
    return False


def _settle(scope: str, wanted: set[str]) -> bool:
    """Move into a leaf of the scope: a group with processes in it cannot pass controllers down."""
    own = os.path.join(scope, "agent")
    try:
        os.mkdir(own)
        cgroup.join(own)
    except OSError:
        return False
    for controller in wanted:
        cgroup.write(scope, "cgroup.subtree_control", "+" + controller)
    return True
