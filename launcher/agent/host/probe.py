"""Probes this host: the facts that a plan is made from."""

from __future__ import annotations

import os
import struct
import sys
import time

from ..base import lean
from ..base.journal import write_private
from ..base.lean import Socket, socket
from ..processes import processes
from . import gpu_locks, gpu_users, gpus, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import HostFacts


#: linux/if_addr.h: an address for privacy; one that is deprecated, tentative or a duplicate.
IFA_F_TEMPORARY, IFA_F_UNUSABLE = 0x01, 0x08 | 0x20 | 0x40


def facts(root: str, with_gpus: bool) -> HostFacts:
    """Return everything that planning and the rendezvous need to know."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    held = gpu_locks.held()  # whose processes are seen below may have ended by the second look
    asked = gpu_users.ask() if with_gpus else None
    listed = gpus.listed() if with_gpus else []
    disk = os.statvfs(root)
    return {
        "hostname": socket.gethostname(),
        "user": processes.user_name(os.getuid()),
        "root": root,
        "machine": machine.fingerprint(),
        "python": sys.executable,
        "python_version": "%d.%d.%d" % sys.version_info[:3],
        "cpus": len(os.sched_getaffinity(0)),
        "addresses": addresses(),
        "ssh_address": _ssh_address(),
        "disk_free": disk.f_bavail * disk.f_frsize,
        "noexec": bool(disk.f_flag & os.ST_NOEXEC),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "rsync": rsync_version(root),
        "gpus": listed,
        "gpu_users": gpu_users.users(listed, asked),
        "visible": gpus.bounds() if with_gpus else {},
        "leased": {str(index): one for index, one in {**held, **gpu_locks.held()}.items()},
        "time": time.time(),
    }


def _ssh_address() -> str | None:
    """Return the address at which launcher reached this host, from sshd (sshd(8), ENVIRONMENT)."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return words[2] if len(words) == 4 else None


def rsync_version(root: str) -> str | None:
    """Return the version of rsync on PATH, or None.

    It is remembered until the program's file changes: asking takes a quarter of a relay's start.
    """
    try:
        program = processes.find_program("rsync", os.environ.get("PATH", os.defpath), "/")
    except FileNotFoundError:
        return None
    note = os.path.join(root, "rsync.json")
    file = _identity(program)
    known = _read(note)
    if file and known.get("file") == file:
        version: str = known["version"]
        return version
    words = (processes.output_of(["rsync", "--version"]) or "").split()
    if len(words) < 3:
        return "unknown"
    if file:
        try:
            write_private(note, {"file": file, "version": words[2]})
        except OSError:  # a full disk: ask again next time
            pass
    return words[2]


def _identity(program: str) -> list[Any] | None:
    """Return what changes when a program does; None for a script, which may run any other program."""
    try:
        with open(program, "rb") as file:
            about, is_binary = os.fstat(file.fileno()), file.read(4) == b"\x7fELF"
    except OSError:
        return None
    return [program, about.st_ino, about.st_size, about.st_ctime_ns] if is_binary else None


def _read(note: str) -> dict[str, Any]:
    try:
        with open(note) as file:
            known: dict[str, Any] = lean.loads(file.read())
            return known
    except (OSError, ValueError):
        return {}


def addresses() -> list[tuple[str, str]]:
    """Return ``[(interface, address), ...]`` of interfaces that are up.

    IPv4 comes before IPv6, loopback last. Of IPv6 only what other hosts can use: no loopback, no
    link-local address, which means nothing without the caller's own interface.
    """
    import fcntl

    found: list[tuple[str, str]] = []
    with Socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", os.fsencode(name)[:15])
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(asker, 0x8913, request), 16)[0]
                answer = fcntl.ioctl(asker, 0x8915, request)  # SIOCGIFFLAGS, SIOCGIFADDR
            except OSError:
                continue
            if flags & 1:
                found.append((name, socket.inet_ntoa(answer[20:24])))
    found += ipv6_addresses()
    found.sort(key=lambda item: item[1].startswith("127."))
    return found


def ipv6_addresses(path: str = "/proc/net/if_inet6") -> list[tuple[str, str]]:
    """Return the global IPv6 addresses, those for privacy last, as they are given up after a day."""
    try:
        with open(path) as file:
            lines = [line.split() for line in file]
    except OSError:  # no IPv6
        return []
    found = []
    for digits, _, _, scope, flags, name in lines:
        state = int(flags, 16)
        if scope == "00" and not state & IFA_F_UNUSABLE:
            address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
            found.append((state & IFA_F_TEMPORARY, name, address))
    return [(name, address) for _, name, address in sorted(found, key=lambda item: item[0])]


def interface_of(address: str) -> str | None:
    """Return the interface that has a local address, or None."""
    for name, own in addresses():
        if own == address:
            return name
    return None


def port_is_free(port: int) -> bool:
    """Return whether a server could listen on ``port`` here now."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with Socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
                probe.listen(1)
        except OSError as error:
            if error.errno == 98:  # EADDRINUSE; a host without IPv6 fails in another way
                return False
    return True
