"""Measures this host: what a plan has to know before it can be made.

Not responsible for judging: the launcher compares.
"""

import os
import struct
import sys
import time

from . import gpus, leases, processes
from .lean import Socket, socket


def facts(root, with_gpus):
    """Everything that planning and meeting want to know, as a dictionary."""
    os.makedirs(root, mode=0o700, exist_ok=True)
    disk = os.statvfs(root)
    return {
        "hostname": socket.gethostname(),
        "root": root,
        "python": sys.executable,
        "python_version": "%d.%d.%d" % sys.version_info[:3],
        "cpus": len(os.sched_getaffinity(0)),
        "addresses": addresses(),
        "ssh_address": _ssh_address(),
        "disk_free": disk.f_bavail * disk.f_frsize,
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "rsync": rsync_version(),
        "gpus": gpus.listed() if with_gpus else [],
        "leased": {str(index): holder for index, holder in leases.held().items()},
        "time": time.time(),
    }


def _ssh_address():
    """The address of this host that the launcher reached, as sshd tells (sshd(8), ENVIRONMENT)."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return words[2] if len(words) == 4 else None


def rsync_version():
    """The version of rsync on PATH, or None."""
    try:
        processes.find_program("rsync", os.environ.get("PATH", os.defpath), "/")
    except FileNotFoundError:
        return None
    words = (processes.output_of(["rsync", "--version"]) or "").split()
    return words[2] if len(words) > 2 else "unknown"


def addresses():
    """``[[interface, IPv4 address], ...]`` of interfaces that are up, loopback last."""
    import fcntl

    found = []
    with Socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", os.fsencode(name)[:15])
            try:
                flags = struct.unpack_from("H", fcntl.ioctl(asker, 0x8913, request), 16)[0]
                answer = fcntl.ioctl(asker, 0x8915, request)  # SIOCGIFFLAGS, SIOCGIFADDR
            except OSError:
                continue
            if flags & 1:
                found.append([name, socket.inet_ntoa(answer[20:24])])
    found.sort(key=lambda item: item[1].startswith("127."))
    return found


def interface_of(address):
    """The interface that owns a local address, or None."""
    for name, own in addresses():
        if own == address:
            return name
    return None


def port_is_free(port):
    """Whether a server could listen on ``port`` here now."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            with Socket(family, socket.SOCK_STREAM) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
                probe.listen(1)
        except OSError as error:
            if error.errno == 98:  # EADDRINUSE; a host without IPv6 is no reason
                return False
    return True
