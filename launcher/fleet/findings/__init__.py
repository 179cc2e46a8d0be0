"""The findings of a check: the registry of their codes, and how equal findings are folded.

Each subject has its file: a single host, the group, pairs and a job. To add a finding, add a row
here and a function in the table of its file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ...spec import errors, nodeset
from ...spec.frozen import frozen

OK, WARNING, ERROR = "ok", "warning", "error"
LEVELS = (ERROR, WARNING, OK)

#: Every code with its usual level and its meaning. Programs may rely on the codes.
CODES: Mapping[str, tuple[str, str]] = {
    "SSH-UNREACHABLE": (ERROR, "no answer to a TCP connection"),
    "SSH-REFUSED": (ERROR, "nothing listens on the SSH port"),
    "SSH-FROZEN": (ERROR, "the port is open, but no SSH server answers"),
    "SSH-KEY-UNKNOWN": (ERROR, "known_hosts has no key of the host"),
    "SSH-KEY-CHANGED": (ERROR, "known_hosts has a different key; launcher never changes it"),
    "SSH-LOGIN": (ERROR, "the host refused the login"),
    "SSH-BROKEN": (ERROR, "the connection could not be opened, or dropped"),
    "SSH-SESSIONS": (WARNING, "sshd allows too few sessions on a connection (MaxSessions)"),
    "PYTHON-MISSING": (ERROR, "the inventory's interpreter does not exist"),
    "PYTHON-OLD": (ERROR, "the interpreter is older than 3.8"),
    "PYTHON-SILENT": (ERROR, "the interpreter hangs or fails when it loads its packages"),
    "HOST-BROKEN": (ERROR, "the agent cannot work on the host"),
    "RSYNC-MISSING": (ERROR, "rsync is missing, or older than 3.1.3"),
    "RSYNC-UNSAFE": (WARNING, "with the rsync here, a hostile host can write files of its choice"),
    "DISK-FULL": (ERROR, "no space at workdir"),
    "DISK-LOW": (WARNING, "little space at workdir"),
    "DISK-NOEXEC": (WARNING, "no file at workdir may be executed"),
    "DISK-READ-ONLY": (ERROR, "workdir is not writable"),
    "DISK-SHM": (WARNING, "little space in /dev/shm, through which data loaders pass batches"),
    "LIMIT-NOFILE": (WARNING, "a low limit for open files"),
    "LIMIT-MEMLOCK": (WARNING, "InfiniBand, and a low limit for locked memory"),
    "LOGOUT-KILLS": (WARNING, "a run would stop with the SSH connection that started it"),
    "CLOCK-OFFSET": (WARNING, "a clock differs from most others"),
    "TORCH-MISSING": (WARNING, "the interpreter has no torch"),
    "TORCH-NO-CUDA": (ERROR, "the host has GPUs, but its torch was built without CUDA (or ROCm)"),
    "DRIVER-OLD": (ERROR, "the driver is older than torch's CUDA needs"),
    "GPU-SILENT": (WARNING, "a tool that lists GPUs exists but fails"),
    "GPU-COUNT": (ERROR, "fewer GPUs than the inventory says"),
    "GPU-ECC": (ERROR, "uncorrectable memory errors since the driver was loaded"),
    "GPU-XID": (WARNING, "the kernel log reports a hardware fault of a GPU"),
    "GPU-FOREIGN": (WARNING, "somebody uses GPUs outside launcher"),
    "LEFT-ORPHANS": (WARNING, "processes of an earlier run; --fix kills them"),
    "LEFT-UNFINISHED": (WARNING, "an abandoned run may still run there; --fix stops it"),
    "LEFT-FOLDERS": (WARNING, "folders of earlier runs fill the disk"),
    "LEFT-SHM": (WARNING, "exited programs left memory in /dev/shm"),
    "SET-ONE-MACHINE": (ERROR, "several hosts of the inventory are one machine"),
    "SET-PYTHON": (WARNING, "Python versions differ"),
    "SET-TORCH": (WARNING, "torch versions differ"),
    "SET-CUDA": (WARNING, "the CUDA versions of torch differ"),
    "SET-NCCL": (WARNING, "NCCL versions differ"),
    "SET-HOROVOD": (WARNING, "horovod versions differ"),
    "SET-DRIVER": (WARNING, "GPU drivers differ"),
    "SET-GPUS": (WARNING, "GPUs differ in number, model or memory"),
    "NET-LOOPBACK-NAME": (WARNING, "the host's own name resolves to a loopback address"),
    "NET-NAME-UNKNOWN": (WARNING, "the host cannot resolve its own name"),
    "NET-NAME-SLOW": (WARNING, "the host's own name takes seconds to resolve"),
    "NET-NAME-WRONG": (WARNING, "a host's name resolves to something else on another host"),
    "NET-OWN-HOSTS": (ERROR, "own_hosts: true is not possible on the host"),
    "NET-NAME-PRIVATE": (OK, "hosts cannot resolve each other's names; launcher uses addresses"),
    "NET-INTERFACE-UNKNOWN": (ERROR, "the inventory's interface does not exist"),
    "NET-INTERFACE": (WARNING, "another interface reaches the other hosts; --fix writes it"),
    "NET-IP-VERSION": (ERROR, "some hosts have IPv4 addresses alone, others IPv6 alone"),
    "NET-NO-ROUTE": (ERROR, "one host cannot reach another at any address"),
    "NET-PORT-CLOSED": (ERROR, "ports that runs use are closed between two hosts"),
    "NET-MTU": (ERROR, "packets as large as the interface allows do not arrive"),
    "NET-SLOW": (WARNING, "a pair is much slower than the others"),
    "IB-PORTS": (OK, "the InfiniBand and RoCE ports that are active"),
    "IB-DOWN": (WARNING, "no InfiniBand or RoCE port is active"),
    "IB-NO-GID": (WARNING, "a RoCE port has no GID that NCCL can use"),
    "IB-HCA": (WARNING, "hosts have different InfiniBand devices: each needs its NCCL_IB_HCA"),
    "IB-RATE": (WARNING, "InfiniBand links differ in number, rate or kind"),
    "NET-UNTESTED": (WARNING, "a pair could not be tested"),
    "JOB-FITS": (OK, "the job would fit now"),
    "JOB-NO-FIT": (ERROR, "the job would not fit now"),
    "JOB-FRAMEWORK": (ERROR, "a host lacks a requirement of the job's framework"),
    "JOB-IMPORT": (ERROR, "a host lacks a module that the job imports"),
    "JOB-NEEDS": (ERROR, "a path that the job needs is missing or unreadable"),
    "JOB-ENVIRONMENT": (WARNING, "a host lacks the environment of a role; an error if all do"),
    "JOB-MODULES": (ERROR, "a host cannot load the modules of the job, or prepare for them"),
    "JOB-BUILDER": (OK, "what builds the job's environment on a host; an error if nothing does"),
    "JOB-IMAGE": (OK, "which hosts have the job's image, and which would get it"),
    "RUNTIME-MISSING": (ERROR, "no container runtime that takes the job's image"),
    "RUNTIME-SUBUID": (ERROR, "podman without root has no user IDs for its containers"),
    "RUNTIME-DENIED": (ERROR, "the user may not use docker"),
    "RUNTIME-DAEMON": (ERROR, "docker does not answer"),
    "RUNTIME-NAMESPACES": (ERROR, "the kernel refuses containers to the user"),
    "RUNTIME-CDI": (ERROR, "podman finds no description of the GPUs (CDI)"),
    "RUNTIME-BROKEN": (ERROR, "a container of the job's image cannot be started"),
    "IMAGE-MACHINE": (ERROR, "the job's image is for another kind of machine"),
    "IMAGE-DIFFERS": (ERROR, "hosts have different images of the job's name"),
    "IMAGE-SHELL": (ERROR, "the job's image has no sh"),
    "IMAGE-MOUNT": (ERROR, "a path that the job's image needs cannot be mounted"),
    "IMAGE-ROOM": (ERROR, "no room for the job's image"),
    "PLUGIN-BROKEN": (WARNING, "a check of another package cannot be used, or failed"),
    "SMOKE": (OK, "an all-reduce over the hosts, with its bandwidth"),
    "SMOKE-FAILED": (ERROR, "the all-reduce failed"),
    "SMOKE-UNTRIED": (
        WARNING,
        "the all-reduce could not be tried: the framework has none, or misses something",
    ),
}


@frozen
class Finding:
    """Something found on ``hosts``; for a pair, between ``hosts`` and ``there``.

    ``evidence`` is what was seen, without the names of the hosts, so that equal findings fold;
    ``fix`` is what to do about it, and ``value`` what ``--fix`` writes.
    """

    code: str
    level: str
    hosts: tuple[str, ...]
    evidence: str
    fix: str = ""
    there: tuple[str, ...] = ()
    value: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the finding for programs."""
        return asdict(self)


def problems(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Return the findings that a person is shown: of those that are no problem, what a job asked for."""
    return tuple(f for f in findings if f.level != OK or f.code.startswith(("JOB", "SMOKE")))


def found(
    code: str,
    hosts: str | Iterable[str],
    evidence: str,
    fix: str = "",
    level: str = "",
    there: Iterable[str] = (),
    value: str = "",
) -> Finding:
    """Return a finding, at the usual level of its code unless ``level`` is given."""
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
    """Return the finding for an error of a host."""
    code = next(code for kind, code in _OF_ERRORS if isinstance(error, kind))
    return found(code, error.host, error.message, error.hint)


#: Findings that an ``interface:`` in the inventory fixes; it is their ``value``.
INTERFACES = ("NET-INTERFACE", "NET-INTERFACE-UNKNOWN")


def suggested(findings: Iterable[Finding]) -> dict[str, str]:
    """Return the ``interface:`` to write into the inventory, by host."""
    return {host: f.value for f in findings if f.code in INTERFACES for host in f.hosts if f.value}


def fold(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Fold equal findings of several hosts into one; return the worst first."""
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
    """Return the median (importing ``statistics`` takes as long as a host to answer)."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def by_value(values: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return ``(value, nodeset)`` for hosts with the same value, the largest set first."""
    hosts: dict[str, list[str]] = {}
    for name, value in values.items():
        hosts.setdefault(value, []).append(name)
    largest = sorted(hosts.items(), key=lambda item: -len(item[1]))
    return [(value, nodeset.fold(names)) for value, names in largest]
