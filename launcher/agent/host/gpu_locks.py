"""GPU locks without a daemon or a file: one abstract socket for each GPU, bound by its run's supervisor.

One socket of a host can have a name. Nobody else can take or remove it, the kernel frees it when
its holder dies, and the kernel knows whose it is. A second name says which run holds the lock: that
is what the holder claims. A MIG instance has a lock of its own, and excludes its GPU as a whole. See
docs/decisions/0044-gpu-locks.md.
"""

from __future__ import annotations

import binascii
import errno
import os
import struct
import time

from ..base import run_lock
from ..base.lean import Socket, socket
from ..processes.processes import user_name
from . import older_gpu_locks
from .nvidia import MIG, MIG_EACH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Protocol

    from ..base.messages import Holder

    class Lock(Protocol):
        """Held until it is closed."""

        def close(self) -> None: ...


#: Locks of more GPUs are not looked at, nor are claims beyond these numbers, in all and of one user.
MOST_GPUS, MOST_CLAIMS, MOST_OF_A_USER = 128, 10_000, 200
#: Indices beyond are those of no MIG instance.
MOST_INDICES = MIG + MIG_EACH * MOST_GPUS
#: Bytes of /proc/net/unix that are read: 100,000 sockets.
MOST_BYTES = 1 << 23
#: Lookers that may wait until :func:`drain`; a full queue only hides a uid, and from old kernels.
QUEUE = 128


class Busy(Exception):
    """Another run, or another program, holds the GPU ``index``; ``holder`` is what is known of it."""

    def __init__(self, index: int, holder: Holder) -> None:
        super().__init__("GPU %d is in use" % index)
        self.index, self.holder = index, holder


def take(indices: Iterable[int], run_id: str) -> list[Lock]:
    """Lock all of ``indices`` or none; return what to close. Raises Busy or OSError."""
    taken: list[Lock] = []
    try:
        for index in indices:
            taken.append(_take_one(index))
            _check_parts(index)
            taken.extend(older_gpu_locks.take(parent_of(index), shared=index >= MIG))
            taken.extend(_claim("gpu/%d" % index, run_id))
    except BaseException as error:
        for lock in taken:
            lock.close()
        if isinstance(error, older_gpu_locks.Busy):
            raise Busy(error.index, error.holder)
        raise
    return taken


def parent_of(index: int) -> int:
    """Return the GPU that a MIG instance is a part of; of any other GPU its own index."""
    return (index - MIG) // MIG_EACH if index >= MIG else index


def _check_parts(index: int) -> None:
    """Raise Busy if somebody holds the GPU of this MIG instance, or an instance of this GPU.

    Our own lock already listens. Of two who take parts of one GPU at once, the later one sees the
    other: never both go on, and at worst neither.
    """
    first = MIG + MIG_EACH * index
    others = [parent_of(index)] if index >= MIG else range(first, first + MIG_EACH)
    for other in others:
        if _is_held(other):
            raise Busy(other, held().get(other, {}))


def _is_held(index: int) -> bool:
    """Return whether somebody listens under the name of a GPU; taking it would be seen by others."""
    with Socket(socket.AF_UNIX, socket.SOCK_STREAM) as looker:
        looker.setblocking(False)
        try:
            looker.connect(_prefix() + b"gpu/%d" % index)
        except OSError as error:
            return error.errno != errno.ECONNREFUSED
    return True


def _take_one(index: int) -> Lock:
    try:
        return _bind("gpu/%d" % index)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    raise Busy(index, held().get(index, {}))


def register(run_id: str) -> list[Lock]:
    """Show all users of the host that a run is here, until what is returned is closed."""
    return _claim("run", run_id)


def _claim(what: str, run_id: str) -> list[Lock]:
    try:
        return [_bind("%s/%s/%d" % (what, run_id, time.time()))]
    except OSError:  # it is only shown: not worth a run
        return []


def drain(locks: Iterable[Lock]) -> None:
    """Let those go who asked the kernel whose these locks are, so that others can ask."""
    for lock in locks:
        for _ in range(QUEUE if isinstance(lock, Socket) else 0):
            try:
                lock.accept()[0].close()  # type: ignore[attr-defined] # a Socket
            except OSError:
                break


def _bind(name: str) -> Socket:
    lock = Socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        lock.bind(_prefix() + name.encode())
        lock.setblocking(False)
        lock.listen(QUEUE)
    except OSError:
        lock.close()
        raise
    return lock


def _prefix() -> bytes:
    """What names begin with; other than usual for hosts that share a machine, as in a sandbox."""
    scope = os.environ.get("LAUNCHER_LOCK_SCOPE")
    return b"\0launcher" + (b"-%08x" % binascii.crc32(os.fsencode(scope)) if scope else b"") + b"/"


def held() -> dict[int, Holder]:
    """``{GPU index: holder}`` of all locks held on this host now, whoever made them."""
    seen = _names()
    found: dict[int, Holder] = older_gpu_locks.held(range(MOST_GPUS))
    for name in seen:
        index = name[4:]
        if name.startswith("gpu/") and index.isdigit() and int(index) < MOST_INDICES:
            found[int(index)] = _known(_uid(seen[name]))
    for name, uid, run, since in _claims(seen, "gpu/"):
        holder = found.get(int(name[4:])) if name[4:].isdigit() else None
        if holder and holder.get("uid") == uid is not None:
            holder["run"], holder["since"] = run, since
    return found


def registered() -> list[Holder]:
    """The runs of all users on this host now: ``user`` as the kernel knows it, the rest as claimed."""
    claims = _claims(_names(), "run/")
    return [{**_known(uid), "run": run, "since": since} for _, uid, run, since in claims]


class _Seen:
    """A bound socket, as /proc/net/unix shows it."""

    def __init__(self, name: str, inode: int, is_bound: bool) -> None:
        self.name, self.inode, self.is_bound = name, inode, is_bound


def _names() -> dict[str, _Seen]:
    """Names of our kind that sockets have here, without their prefix."""
    found: dict[str, _Seen] = {}
    mark = b"@" + _prefix()[1:]
    for line in _listing().split(b"\n"):
        fields = line.split(None, 7) if mark in line else ()
        if len(fields) == 8 and fields[7].startswith(mark) and fields[6].isdigit():
            name = fields[7][len(mark) :].decode("ascii", "replace")
            # A connection to a lock has its name as well; the lock itself is not connected.
            if name not in found or fields[5] == b"01":
                found[name] = _Seen(name, int(fields[6]), fields[5] == b"01")
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


def _claims(seen: dict[str, _Seen], kind: str) -> list[tuple[str, int | None, str, int]]:
    """``(name of the lock, uid, run, since)`` of what holders claim."""
    found: list[tuple[str, int | None, str, int]] = []
    of_user: dict[int | None, int] = {}
    claims = [name.rsplit("/", 2) for name in seen if name.startswith(kind)][:MOST_CLAIMS]
    for lock, run, since in [claim for claim in claims if len(claim) == 3]:
        if run_lock.is_run_name(run) and since.isdigit() and len(since) < 12:
            uid = _uid(seen["/".join((lock, run, since))])
            of_user[uid] = of_user.get(uid, 0) + 1
            if of_user[uid] <= MOST_OF_A_USER:
                found.append((lock, uid, run, int(since)))
    return sorted(found, key=lambda claim: claim[2])


def _known(uid: int | None) -> Holder:
    return {} if uid is None else {"uid": uid, "user": user_name(uid)}


def _uid(seen: _Seen) -> int | None:
    """Whose a socket is, as the kernel knows; None where it does not tell."""
    try:
        uid = _uid_by_inode(seen.inode)
        return _uid_of_listener(seen.name) if uid is None and seen.is_bound else uid
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
            looker.connect(_prefix() + name.encode())
        except OSError:  # it does not listen, or its queue is full
            return None
        about = looker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("=iII", about)[1])
