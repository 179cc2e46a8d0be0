"""Names of abstract Unix sockets, by which runs of all users tell each other what they hold.

One socket of a host can have a name. Nobody else can take or remove it, the kernel frees it when its
holder dies, and the kernel knows whose it is. See docs/decisions/0044-gpu-locks.md.
"""

from __future__ import annotations

import binascii
import errno
import os
import struct

from ..base.lean import Socket, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Bytes of /proc/net/unix that are read: 100,000 sockets.
MOST_BYTES = 1 << 23
#: Lookers that may wait until :func:`drain`; a full queue only hides a uid, and from old kernels.
QUEUE = 128
#: The longest name of a run that fits into the name of a socket, which has 107 characters.
LONGEST_RUN = 48


def bind(name: str) -> Socket:
    lock = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(prefix() + name.encode())
        lock.setblocking(False)
        lock.listen(QUEUE)
    except OSError:
        lock.close()
        raise
    return lock


def short(run: str) -> str:
    """Return the name of a run as it fits into the name of a socket."""
    if len(run) <= LONGEST_RUN:
        return run
    return "%s.%08x" % (run[: LONGEST_RUN - 9], binascii.crc32(run.encode()))


def prefix() -> bytes:
    """What names begin with; other than usual for hosts that share a machine, as in a sandbox."""
    scope = os.environ.get("LAUNCHER_LOCK_SCOPE")
    return b"\0launcher" + (b"-%08x" % binascii.crc32(os.fsencode(scope)) if scope else b"") + b"/"


def is_held(name: str) -> bool:
    """Return whether somebody listens under a name; taking it would be seen by others."""
    try:
        found = connected(name)
    except OSError:
        return True
    if found:
        found.close()
    return found is not None


def drain(sockets: Iterable[object]) -> None:
    """Let those go who connected to these sockets, so that others can."""
    for one in sockets:
        for _ in range(QUEUE if isinstance(one, Socket) else 0):
            try:
                one.accept()[0].close()  # type: ignore[attr-defined]
            except OSError:
                break


def connected(name: str) -> Socket | None:
    """Return a connection that the kernel hangs up when the holder of a name is gone; None if nobody
    holds it now. Raises OSError where it takes no more of them."""
    watch = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    watch.setblocking(False)
    try:
        watch.connect(prefix() + name.encode())
    except OSError as error:
        watch.close()
        if error.errno == errno.ECONNREFUSED:
            return None
        raise
    return watch


class Seen:
    """A bound socket, as /proc/net/unix shows it."""

    def __init__(self, name: str, inode: int, is_bound: bool) -> None:
        self.name, self.inode, self.is_bound = name, inode, is_bound


def seen(whole: bool = False) -> dict[str, Seen]:
    """Names of our kind that sockets have here, without their prefix.

    Raises OSError if it has to be the ``whole`` list, and that is too long to be read.
    """
    found: dict[str, Seen] = {}
    mark = b"@" + prefix()[1:]
    text = _listing()
    if whole and len(text) >= MOST_BYTES:
        raise OSError(errno.E2BIG, "this host has too many sockets")
    for line in text.split(b"\n"):
        fields = line.split(None, 7) if mark in line else ()
        if len(fields) == 8 and fields[7].startswith(mark) and fields[6].isdigit():
            name = fields[7][len(mark) :].decode("ascii", "replace")
            # A connection to a lock has its name as well; the lock itself is not connected.
            if name not in found or fields[5] == b"01":
                found[name] = Seen(name, int(fields[6]), fields[5] == b"01")
    return found


def _listing() -> bytes:
    text = b""
    try:
        fd = os.open("/proc/net/unix", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return text
    try:
        piece = os.read(fd, 1 << 20)
        while piece and len(text) < MOST_BYTES:
            text += piece
            piece = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
    return text


def uid_of(one: Seen) -> int | None:
    """Whose a socket is, as the kernel knows; None where it does not tell."""
    try:
        uid = _uid_by_inode(one.inode)
        return _uid_of_listener(one.name) if uid is None and one.is_bound else uid
    except OSError:
        return None


def _uid_by_inode(inode: int) -> int | None:
    """unix_diag(7), UDIAG_SHOW_UID: Linux 5.3."""
    with Socket(socket.AF_NETLINK, socket.SOCK_RAW, 4) as kernel:  # NETLINK_SOCK_DIAG
        kernel.settimeout(1.0)
        head = struct.pack("=IHHII", 40, 20, 1, 1, 0)  # SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST
        any_state = any_cookie = 0xFFFFFFFF
        one = (socket.AF_UNIX, 0, 0, any_state, inode, 0x40, any_cookie, any_cookie)
        kernel.send(head + struct.pack("=BBHIIIII", *one))
        answer = kernel.recv(1 << 12)
    if len(answer) < 32 or struct.unpack_from("=H", answer, 4)[0] != 20:
        return None
    place = 32
    while place + 8 <= len(answer):
        size, kind = struct.unpack_from("=HH", answer, place)
        if kind == 7:  # UNIX_DIAG_UID
            return int(struct.unpack_from("=I", answer, place + 4)[0])
        place += max(4, (size + 3) & ~3)
    return None


def _uid_of_listener(name: str) -> int | None:
    """Who listened, by unix(7), SO_PEERCRED: on any kernel."""
    with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as looker:
        looker.setblocking(False)
        try:
            looker.connect(prefix() + name.encode())
        except OSError:  # it does not listen, or its queue is full
            return None
        about = looker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("=iII", about)[1])
