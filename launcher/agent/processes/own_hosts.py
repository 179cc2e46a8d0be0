"""Gives the processes of a run an /etc/hosts of their own, by a mount that nobody else sees.

A host whose own name leads to loopback misleads whatever tells other hosts where it is: JAX, Gloo,
MPI, Ray. The supervisor enters the namespace before it starts anything, so that all processes of the
run are in one, and may look into each other as before. Only runs that ask for it load this module.
"""

from __future__ import annotations

import errno
import os
import select
import time

from ..base.lean import signal, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, NoReturn

    from ..base.messages import HostEntry

HOSTS = "/etc/hosts"
#: What :func:`trial` returns where it works; else one of the codes below, with their meaning.
WORKS = "works"
APPARMOR, CLONE, MOST = "apparmor", "userns-clone", "max-user-namespaces"  # settings of the kernel
REFUSED = "refused"  # by the kernel, as in many containers
NO_FILE, NO_CTYPES = "no-file", "no-ctypes"  # there is no /etc/hosts; Python cannot call mount(2)
OTHER_RESOLVER = "other-resolver"  # names are looked up elsewhere first: nscd, nsswitch.conf
NO_UVM = "no-uvm"  # CUDA's device is made by a setuid program, which has no effect in there
SILENT = "silent"  # a disk or a resolver hangs
_SETTINGS = (
    (APPARMOR, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
    (CLONE, "/proc/sys/kernel/unprivileged_userns_clone", "0"),
    (MOST, "/proc/sys/user/max_user_namespaces", "0"),
)

#: sched.h and sys/mount.h
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_BIND, MS_REC, MS_SLAVE = 1 << 12, 1 << 14, 1 << 19

#: An address that no host has (RFC 5737), for the trial.
_NOWHERE = "192.0.2.1"
#: Seconds for the trial.
PATIENCE = 5.0


class OwnHosts:
    """The /etc/hosts of this process and all that it starts: ``file``, a copy of the host's."""

    def __init__(self, file: str) -> None:
        """Enter the namespace. Raises OSError."""
        with open(HOSTS, encoding="utf-8", errors="surrogateescape") as original:
            self._original = original.read()
        self._file = file
        self._write(self._original)
        _enter()
        _mount(file, HOSTS, MS_BIND)

    @classmethod
    def entered(cls, original: str) -> OwnHosts:
        """Return that of this process, which has entered the namespace for a run before; ``original`` is
        what is in the host's file, which nobody sees in there. Raises OSError."""
        own = cls.__new__(cls)
        own._original, own._file = original, HOSTS
        own._write(original)
        return own

    def name(self, entries: Iterable[HostEntry], own: str) -> None:
        """Have the names of the run's hosts lead to their addresses; ``own`` is this one's entry."""
        self._write(rewritten(self._original, entries, own, socket.gethostname()))

    def _write(self, text: str) -> None:
        """Write in place: the mount shows this very file. Everybody may read it, as the host's."""
        fd = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
            os.fchmod(fd, 0o644)
            file.write(text)


def rewritten(text: str, entries: Iterable[HostEntry], own: str, hostname: str) -> str:
    """Return an /etc/hosts in which these names lead to these addresses alone, ours first.

    ``hostname`` is this host's own name, which moves together with the aliases that loopback has on
    the same line.
    """
    lines: list[str] = []
    moved: set[str] = set()
    for entry in sorted(entries, key=lambda entry: entry["host"] != own):
        names = [*(_own_names(text, hostname) if entry["host"] == own else []), *entry["names"]]
        fresh = [n for n in dict.fromkeys(names) if n.lower() not in moved and not _is_localhost(n)]
        moved.update(name.lower() for name in fresh)
        lines += ["%s\t%s" % (entry["address"], " ".join(fresh))] if fresh else []
    for line in text.splitlines():
        address, names = _parsed(line)
        kept = [name for name in names if name.lower() not in moved]
        if kept == names:
            lines.append(line)
        elif kept:
            lines.append("%s\t%s" % (address, " ".join(kept)))
    return "\n".join(lines) + "\n"


def _own_names(text: str, hostname: str) -> list[str]:
    """Return this host's name, and what else a loopback address is called on the same line."""
    for address, names in map(_parsed, text.splitlines()):
        is_loopback = address.startswith("127.") or address == "::1"
        if is_loopback and hostname.lower() in [name.lower() for name in names]:
            return [*(name for name in names if not _is_localhost(name)), hostname]
    return [hostname]


def _parsed(line: str) -> tuple[str, list[str]]:
    """Return address and names of a line; of an empty one or a comment, nothing."""
    words = line.partition("#")[0].split()
    return (words[0], words[1:]) if words else ("", [])


def _is_localhost(name: str) -> bool:
    return name.lower().startswith(("localhost", "ip6-"))


def trial(folder: str) -> str:
    """Try it in a fork; return WORKS, or the code of what is in the way. ``folder`` is writable."""
    file = os.path.join(folder, "hosts-%d" % os.getpid())
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _try_and_exit(file, writer)
    os.close(writer)
    deadline, said = time.monotonic() + PATIENCE, b""
    try:
        while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            piece = os.read(reader, 64)
            said += piece
            if not piece:
                return said.decode() or REFUSED
        return SILENT
    finally:
        os.close(reader)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        try:
            os.unlink(file)
        except OSError:
            pass


def _try_and_exit(file: str, writer: int) -> NoReturn:
    code = REFUSED
    try:
        code = _tried(file)
    except OSError as error:
        code = _reason(error)
    finally:
        os.write(writer, code.encode())
        os._exit(0)


def _tried(file: str) -> str:
    if os.geteuid() and os.path.exists("/dev/nvidiactl") and not os.path.exists("/dev/nvidia-uvm"):
        return NO_UVM
    hosts, name = OwnHosts(file), socket.gethostname()
    hosts.name([{"host": name, "address": _NOWHERE, "names": [name]}], name)
    try:
        answers = socket.getaddrinfo(name, None, 0, socket.SOCK_STREAM)
    except OSError:
        return OTHER_RESOLVER
    return WORKS if {answer[4][0] for answer in answers} == {_NOWHERE} else OTHER_RESOLVER


def _reason(error: OSError) -> str:
    if error.errno == errno.ENOSYS:
        return NO_CTYPES
    if not os.path.exists(HOSTS):
        return NO_FILE
    return (
        REFUSED if os.geteuid() == 0 else next(filter(None, map(_set_against, _SETTINGS)), REFUSED)
    )


def _set_against(setting: tuple[str, str, str]) -> str:
    """Return the code of a setting of the kernel that is in the way, or ""."""
    code, path, value = setting
    try:
        with open(path) as file:
            return code if file.read().strip() == value else ""
    except OSError:
        return ""


def _enter() -> None:
    """Enter a mount namespace; without root that takes a user namespace, in which the user and its
    group keep their numbers. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        _call("unshare", CLONE_NEWNS)
        _mount(
            None, "/", MS_REC | MS_SLAVE
        )  # what the host mounts later is seen here, not the reverse
        return
    _call("unshare", CLONE_NEWUSER | CLONE_NEWNS)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", "%d %d 1" % (uid, uid)),
        ("gid_map", "%d %d 1" % (gid, gid)),
    ):
        fd = os.open("/proc/self/" + name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)


def _mount(source: str | None, target: str, flags: int) -> None:
    from ctypes import c_ulong

    own = source and os.fsencode(source)
    _call("mount", own, os.fsencode(target), None, c_ulong(flags), None)


def _call(function: str, *arguments: Any) -> None:
    """Call a function of libc. Raises OSError."""
    try:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        done = getattr(libc, function)(*arguments) == 0
    except Exception as error:
        raise OSError(errno.ENOSYS, "this Python cannot call %s: %s" % (function, error))
    if not done:
        number = ctypes.get_errno()
        raise OSError(number, "%s: %s" % (function, os.strerror(number)))
