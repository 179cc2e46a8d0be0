"""What a check finds, each with a stable code: the registry, and how equal findings become one.

One file a subject: a host by itself, the set, pairs, and a job. To add a finding: a row here and a
function in the table of its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ...spec import errors, nodeset
from ...spec.frozen import frozen

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (ERROR, WARNING, OK)

#: Every code, its usual level, and what it says. Programs may rely on the codes.
CODES: Mapping[str, tuple[str, str]] = {
    "SSH-UNREACHABLE": (ERROR, "no answer to a TCP connection"),
    "SSH-REFUSED": (ERROR, "nobody listens on the SSH port"),
    "SSH-FROZEN": (ERROR, "the port is open, and no SSH server speaks"),
    "SSH-KEY-UNKNOWN": (ERROR, "known_hosts does not know the host"),
    "SSH-KEY-CHANGED": (ERROR, "known_hosts holds another key; never fixed by launcher"),
    "SSH-LOGIN": (ERROR, "the host does not let the user in"),
    "SSH-BROKEN": (ERROR, "the connection cannot be opened, or broke off"),
    "PYTHON-MISSING": (ERROR, "the inventory's interpreter is not there"),
    "PYTHON-OLD": (ERROR, "the interpreter is older than 3.8"),
    "PYTHON-SILENT": (ERROR, "the interpreter does not answer with its own packages"),
    "HOST-BROKEN": (ERROR, "the agent cannot work there"),
    "RSYNC-MISSING": (ERROR, "no rsync, or one older than 3.1.3"),
    "DISK-FULL": (ERROR, "no room at workdir"),
    "DISK-LOW": (WARNING, "little room at workdir"),
    "DISK-READ-ONLY": (ERROR, "workdir cannot be written"),
    "DISK-SHM": (WARNING, "little room in /dev/shm, where data loaders hand over batches"),
    "LIMIT-NOFILE": (WARNING, "few open files allowed"),
    "LIMIT-MEMLOCK": (WARNING, "InfiniBand, and little memory that may be locked"),
    "LOGOUT-KILLS": (WARNING, "a run would end with the SSH connection that started it"),
    "CLOCK-OFFSET": (WARNING, "a clock differs from most others"),
    "TORCH-MISSING": (WARNING, "the interpreter has no torch"),
    "TORCH-NO-CUDA": (ERROR, "GPUs, and a torch that was built without them"),
    "DRIVER-OLD": (ERROR, "the driver is older than torch's CUDA needs"),
    "GPU-SILENT": (WARNING, "nvidia-smi is there and fails"),
    "GPU-COUNT": (ERROR, "fewer GPUs than the inventory says"),
    "GPU-ECC": (ERROR, "uncorrectable memory errors since the driver was loaded"),
    "GPU-XID": (WARNING, "the kernel's log tells of a hardware fault of a GPU"),
    "GPU-FOREIGN": (WARNING, "somebody uses GPUs without launcher"),
    "LEFT-ORPHANS": (WARNING, "processes of an earlier run; --fix ends them"),
    "LEFT-UNFINISHED": (WARNING, "a run was given up and may go on there; --fix ends it"),
    "LEFT-FOLDERS": (WARNING, "folders of earlier runs hold much of the disk"),
    "LEFT-SHM": (WARNING, "memory that ended programs hold in /dev/shm"),
    "SET-PYTHON": (WARNING, "Python versions differ"),
    "SET-TORCH": (WARNING, "torch versions differ"),
    "SET-CUDA": (WARNING, "the CUDA versions of torch differ"),
    "SET-NCCL": (WARNING, "NCCL versions differ"),
    "SET-HOROVOD": (WARNING, "horovod versions differ"),
    "SET-DRIVER": (WARNING, "GPU drivers differ"),
    "SET-GPUS": (WARNING, "GPUs differ in number, model or memory"),
    "NET-LOOPBACK-NAME": (WARNING, "the host's own name leads to a loopback address"),
    "NET-NAME-UNKNOWN": (WARNING, "the host cannot resolve its own name"),
    "NET-NAME-SLOW": (WARNING, "the host's own name takes seconds to resolve"),
    "NET-NAME-WRONG": (WARNING, "a host's name leads elsewhere on another host"),
    "NET-NAME-PRIVATE": (OK, "hosts do not know each other's names; launcher uses addresses"),
    "NET-INTERFACE-UNKNOWN": (ERROR, "the inventory's interface is not there"),
    "NET-INTERFACE": (WARNING, "another interface is the way to the others; --fix writes it"),
    "NET-NO-ROUTE": (ERROR, "no address of a host answers another one"),
    "NET-PORT-CLOSED": (ERROR, "ports that runs use do not answer between two hosts"),
    "NET-MTU": (ERROR, "packets as large as the interface allows do not come through"),
    "NET-SLOW": (WARNING, "a pair is much slower than the others"),
    "NET-UNTESTED": (WARNING, "a pair could not be tried"),
    "JOB-FITS": (OK, "the job would fit now"),
    "JOB-NO-FIT": (ERROR, "the job would not fit now"),
    "JOB-FRAMEWORK": (ERROR, "a host lacks what the job's framework cannot do without"),
    "JOB-IMPORT": (ERROR, "a module that the job imports is not there"),
    "JOB-NEEDS": (ERROR, "a path that the job needs is not there, or cannot be read"),
    "SMOKE": (OK, "an all-reduce over the hosts, with its bandwidth"),
    "SMOKE-FAILED": (ERROR, "the all-reduce failed"),
    "SMOKE-UNTRIED": (
        WARNING,
        "no all-reduce could be tried: the framework has none, or it lacks something",
    ),
}


@frozen
class Finding:
    """One thing that was found on ``hosts`` (towards ``there``, for a pair).

    ``evidence`` is what was seen, without the names of the hosts; ``fix`` is what to do. ``value``
    is what ``--fix`` would write.
    """

    code: str
    level: str
    hosts: tuple[str, ...]
    evidence: str
    fix: str = ""
    there: tuple[str, ...] = ()
    value: str = ""

    def to_json(self) -> dict[str, Any]:
        """As programs read it."""
        return asdict(self)


def found(
    code: str,
    hosts: str | Iterable[str],
    evidence: str,
    fix: str = "",
    level: str = "",
    there: Iterable[str] = (),
    value: str = "",
) -> Finding:
    """A finding with the level that its code usually has."""
    names = (hosts,) if isinstance(hosts, str) else tuple(hosts)
    return Finding(code, level or CODES[code][0], names, evidence, fix, tuple(there), value)


_OF_ERRORS: tuple[tuple[type[errors.HostError], str], ...] = (
    (errors.Unreachable, "SSH-UNREACHABLE"),
    (errors.Refused, "SSH-REFUSED"),
    (errors.NoBanner, "SSH-FROZEN"),
    (errors.UnknownHostKey, "SSH-KEY-UNKNOWN"),
    (errors.HostKeyMismatch, "SSH-KEY-CHANGED"),
    (errors.AuthenticationFailed, "SSH-LOGIN"),
    (errors.Silent, "HOST-BROKEN"),
    (errors.ConnectError, "SSH-BROKEN"),
    (errors.NoPython, "PYTHON-MISSING"),
    (errors.PythonTooOld, "PYTHON-OLD"),
    (errors.NoRsync, "RSYNC-MISSING"),
    (errors.DiskFull, "DISK-FULL"),
    (errors.ReadOnly, "DISK-READ-ONLY"),
    (errors.HostError, "HOST-BROKEN"),
)


def of_error(error: errors.HostError) -> Finding:
    """The finding that an error of one host is."""
    code = next(code for kind, code in _OF_ERRORS if isinstance(error, kind))
    return found(code, error.host, error.message, error.hint)


#: What can be put right by a line in the inventory, which is the finding's ``value``.
INTERFACES = ("NET-INTERFACE", "NET-INTERFACE-UNKNOWN")


def suggested(findings: Iterable[Finding]) -> dict[str, str]:
    """The ``interface:`` that hosts should have in the inventory, for those that should have another."""
    return {host: f.value for f in findings if f.code in INTERFACES for host in f.hosts if f.value}


def fold(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Equal findings of several hosts as one, the worst first, else in their order."""
    same: dict[tuple[str, ...], list[Finding]] = {}
    for one in findings:
        key = (one.level, one.code, one.evidence, one.fix, one.value, *one.there)
        same.setdefault(key, []).append(one)
    folded = [
        replace(ones[0], hosts=tuple(dict.fromkeys(name for one in ones for name in one.hosts)))
        for ones in same.values()
    ]
    return tuple(sorted(folded, key=lambda one: LEVELS.index(one.level)))


def median(values: Sequence[float]) -> float:
    """The middle one (the module ``statistics`` takes as long to import as a host to answer)."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def by_value(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """``(value, node set)`` of hosts with the same value, the largest set first."""
    hosts: dict[str, list[str]] = {}
    for name, value in values.items():
        hosts.setdefault(value, []).append(name)
    largest = sorted(hosts.items(), key=lambda item: -len(item[1]))
    return [(value, nodeset.fold(names)) for value, names in largest]
