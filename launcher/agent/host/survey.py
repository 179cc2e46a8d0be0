"""Surveys this host: everything that ``launcher check`` wants to know about it alone. Read-only."""

from __future__ import annotations

import os
import resource
import socket
import struct
import threading
import time

from ..base import far_paths, plain_files, run_lock
from ..processes import login_session, own_hosts, processes
from ..processes.shared_memory import SharedMemory
from . import devices, infiniband, probe, runtimes, software
from .run_folders import strays

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds to resolve this host's own name, and to add up the sizes of old runs.
NAME_PATIENCE, SIZE_PATIENCE = 2.0, 1.0
#: Most rules of a firewall to report.
RULES = 5


def survey(root: str, modules: list[str], env: dict[str, str], paths: list[str]) -> dict[str, Any]:
    """Survey this host.

    ``modules`` and ``env`` are for :func:`software.packages`; those of ``paths`` that are missing or
    unreadable come back as ``no_paths``, and those that do not answer as ``silent_paths``, too.
    """
    own = own_hosts.trial(root)  # before there are threads, of which a fork has one
    missing, silent = far_paths.lacking(paths)
    naming = Naming()
    facts = probe.facts(root, True)
    found = {
        "facts": facts,
        "os": _os_name(),
        "kernel": os.uname().release,
        "memory": _memory(),
        "disk": disk(root),
        "shm": disk("/dev/shm"),
        "limits": _limits(),
        "interfaces": interfaces(),
        "infiniband": infiniband.listed(infiniband.DEVICES),
        "ib_ports": infiniband.ports(),
        "firewall": firewall(),
        "software": software.packages(modules, env),
        "devices": devices.devices(facts["gpus"], facts["gpu_users"]),
        "leftovers": leftovers(root),
        "login": login_session.survey(),
        "own_hosts": own,
        "runtimes": runtimes.runtimes(),
        "no_paths": missing,
        "silent_paths": silent,
    }
    found["own_name"] = naming.result()
    return found


class Naming:
    """Resolves this host's own name in a thread: a resolver may take half a minute."""

    def __init__(self) -> None:
        self.name = socket.gethostname()
        self._started = time.monotonic()
        self._found: list[str] | None = None
        self._thread = threading.Thread(target=self._resolve, daemon=True)
        self._thread.start()

    def _resolve(self) -> None:
        self._found = resolve(self.name)

    def result(self) -> dict[str, Any]:
        """Return ``{"name", "addresses", "slow"}``; no addresses when the name is unknown."""
        waited = time.monotonic() - self._started
        self._thread.join(max(0.0, NAME_PATIENCE - waited))
        return {"name": self.name, "addresses": self._found or [], "slow": self._found is None}


def resolve(name: str) -> list[str]:
    """Return the addresses of a name, in the resolver's order; ``[]`` when it has none.

    Its IPv6 addresses count only where it has no IPv4 address, which most programs prefer.
    """
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            answers = socket.getaddrinfo(name, None, family, socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            continue
        return list(dict.fromkeys(str(answer[4][0]).partition("%")[0] for answer in answers))
    return []


def _os_name() -> str:
    text = plain_files.text("/etc/os-release")
    for line in text.splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip("\"'")
    return os.uname().sysname


def _memory() -> dict[str, int]:
    """Return bytes of memory in total, and those that a new program could have."""
    sizes = dict(
        line.split(":", 1) for line in plain_files.text("/proc/meminfo").splitlines() if ":" in line
    )

    def size(key: str) -> int:
        return int((sizes.get(key) or "0").split()[0]) * 1024

    return {"total": size("MemTotal"), "free": size("MemAvailable")}


def disk(path: str) -> dict[str, Any] | None:
    """Return total and free space of the file system of ``path``; None when it does not exist."""
    try:
        at = os.statvfs(path)
    except OSError:
        return None
    return {
        "path": path,
        "total": at.f_blocks * at.f_frsize,
        "free": at.f_bavail * at.f_frsize,
        "files_free": at.f_favail if at.f_files else None,  # some file systems have no limit
    }


def _limits() -> dict[str, list[int]]:
    """Return soft and hard limits; -1 is no limit."""
    return {
        "memlock": list(resource.getrlimit(resource.RLIMIT_MEMLOCK)),
        "nofile": list(resource.getrlimit(resource.RLIMIT_NOFILE)),
    }


def interfaces() -> list[tuple[str, str, int | None, int | None]]:
    """Return ``[(name, address, MTU, Mbit/s or None), ...]`` of interfaces that are up."""
    found: list[tuple[str, str, int | None, int | None]] = []
    for name, address in probe.addresses():
        speed = plain_files.text("/sys/class/net/%s/speed" % name).strip()
        known = speed.isdigit() and int(speed) > 0
        found.append((name, address, mtu_of(name), int(speed) if known else None))
    return found


def mtu_of(interface: str) -> int | None:
    """Return the MTU in bytes (SIOCGIFMTU, netdevice(7)), or None."""
    import fcntl

    request = struct.pack("16si", os.fsencode(interface)[:15], 0) + bytes(12)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            return int(struct.unpack_from("i", fcntl.ioctl(asker, 0x8921, request), 16)[0])
        except OSError:
            return None


def firewall() -> dict[str, Any] | None:
    """Return ``{"kind", "rules"}`` of rules that drop or reject packets, or None.

    Without root only ufw's configuration can be read.
    """
    if "ENABLED=yes" in plain_files.text("/etc/ufw/ufw.conf"):
        return {"kind": "ufw", "rules": ["ufw is enabled"]}
    if os.geteuid() != 0:
        return None
    for kind, argv in (("nftables", ["nft", "list", "ruleset"]), ("iptables", ["iptables", "-S"])):
        output = processes.output_of(argv, 3.0)
        rules = [line.strip() for line in (output or "").splitlines() if _blocks(line)]
        if rules:
            return {"kind": kind, "rules": rules[:RULES]}
    return None


def _blocks(rule: str) -> bool:
    return "policy drop" in rule or bool({"drop", "reject"}.intersection(rule.lower().split()))


def leftovers(root: str) -> dict[str, Any]:
    """Return what earlier runs left here: processes without a supervisor, folders and their size,
    shared memory.

    ``complete`` is False when there was no time to add up all sizes.
    """
    base = os.path.join(root, "runs")
    folders = [name for name in _listed(base) if not run_lock.is_alive(os.path.join(base, name))]
    deadline = time.monotonic() + SIZE_PATIENCE
    total = 0
    seen: set[int] = set()
    for name in folders:
        for folder, _, files in plain_files.walk(os.path.join(base, name)):
            total += sum(_size(os.path.join(folder, file), seen) for file in files)
        if time.monotonic() > deadline:
            break
    return {
        "orphans": _orphans(base),
        "folders": len(folders),
        "bytes": total,
        "complete": time.monotonic() <= deadline,
        "shm": SharedMemory(0.0).abandoned(),
    }


def _size(path: str, seen: set[int]) -> int:
    """Return the bytes of a file on disk; 0 for a hard link to one that was counted."""
    try:
        status = os.lstat(path)
    except OSError:
        return 0
    if status.st_nlink > 1:
        if status.st_ino in seen:
            return 0
        seen.add(status.st_ino)
    return status.st_blocks * 512


def _orphans(base: str) -> list[dict[str, Any]]:
    return [
        dict(processes.describe(pid), run=os.path.basename(run_dir))
        for pid, run_dir in sorted(strays(base).items())
    ]


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
