"""What a process has from the login that it descends from, and that another login may have otherwise."""

from __future__ import annotations

import os

from ..base import plain_files
from . import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Dict

    #: What is inherited, by a name for people.
    Inherited = Dict[str, str]

#: Lines of /proc/self/status (proc(5)).
_STATUS = (
    "Uid",
    "Gid",
    "Groups",
    "Umask",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
    "SigBlk",
    "Cpus_allowed",
    "Mems_allowed",
)
_SPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
#: Where the name of a limit ends in /proc/self/limits.
_LIMIT = 26


def inherited() -> Inherited:
    """Return what this process has from its login."""
    found = {}
    for line in plain_files.text("/proc/self/status").splitlines():
        name, _, value = line.partition(":")
        if name in _STATUS:
            found[name] = " ".join(value.split())
    for line in plain_files.text("/proc/self/limits").splitlines()[1:]:
        found[line[:_LIMIT].strip()] = " ".join(line[_LIMIT:].split())
    for space in _SPACES:
        try:
            found[space + " namespace"] = os.readlink("/proc/self/ns/" + space)
        except OSError:
            pass
    found["nice value"] = str(os.getpriority(os.PRIO_PROCESS, 0))
    policy, first = os.sched_getscheduler(0), os.sched_getparam(0).sched_priority
    found["scheduling policy"] = "%d %d" % (policy, first)
    found["coredump_filter"] = plain_files.text("/proc/self/coredump_filter").strip()
    found["oom_score_adj"] = plain_files.text("/proc/self/oom_score_adj").strip()
    found["security context"] = plain_files.text("/proc/self/attr/current").rstrip("\0\n")
    found["control group"] = group_of_logins(plain_files.text("/proc/self/cgroup"))
    return found


def differing(one: Inherited, other: Inherited) -> str:
    """Return the name of something that differs; "" for nothing."""
    for name in sorted(one.keys() | other.keys()):
        if one.get(name) != other.get(name):
            return name
    return ""


def group_of_logins(text: str) -> str:
    """Return the lines of /proc/self/cgroup as they are for each login of a user: systemd numbers the
    scopes of sessions, and gives all of one user the same."""
    lines = []
    for line in text.splitlines():
        parts = line.split("/")
        for number, part in enumerate(parts):
            if part.startswith("session-") and part.endswith(".scope"):
                parts[number] = "session-*.scope"
        lines.append("/".join(parts))
    return "\n".join(lines)


def own_group() -> str:
    """Return the folder of this process's control group; "" where there is none (cgroup v2)."""
    return next((chain[0] for chain in cgroup.own_groups()), "")
