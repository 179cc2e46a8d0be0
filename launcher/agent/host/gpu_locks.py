"""GPU locks without a daemon or a file: one abstract socket for each GPU, bound by its run's supervisor.

A second name says which run holds the lock, and until when at most: that is what the holder claims.
A MIG instance has a lock of its own, and excludes its GPU as a whole. See
docs/decisions/0044-gpu-locks.md.
"""

from __future__ import annotations

import errno
import time

from ..base import run_lock
from ..processes.processes import user_name
from . import older_gpu_locks, socket_names
from .nvidia import MIG, MIG_EACH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    from ..base.messages import Holder
    from .socket_names import Seen

    class Lock(Protocol):
        """Held until it is closed."""

        def close(self) -> None: ...


#: Locks of more GPUs are not looked at, nor are claims beyond these numbers, in all and of one user.
MOST_GPUS, MOST_CLAIMS, MOST_OF_A_USER = 128, 10_000, 200
#: Indices beyond are those of no MIG instance.
MOST_INDICES = MIG + MIG_EACH * MOST_GPUS


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


def are_one(one: int, other: int) -> bool:
    """Return whether runs that use these would meet: on one GPU, or on a part of it."""
    if one >= MIG and other >= MIG:
        return one == other
    return parent_of(one) == parent_of(other)


def _check_parts(index: int) -> None:
    """Raise Busy if somebody holds the GPU of this MIG instance, or an instance of this GPU.

    Our own lock already listens. Of two who take parts of one GPU at once, the later one sees the
    other: never both go on, and at worst neither.
    """
    first = MIG + MIG_EACH * index
    others = [parent_of(index)] if index >= MIG else range(first, first + MIG_EACH)
    for other in others:
        if socket_names.is_held("gpu/%d" % other):
            raise Busy(other, held().get(other, {}))


def _take_one(index: int) -> Lock:
    try:
        return socket_names.bind("gpu/%d" % index)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    raise Busy(index, held().get(index, {}))


def register(run_id: str) -> list[Lock]:
    """Show all users of the host that a run is here, until what is returned is closed."""
    return _claim("run", run_id)


def limit(run_id: str, seconds: float) -> list[Lock]:
    """Show until when the run ends by itself, until what is returned is closed."""
    return _claim("until", run_id, seconds)


def _claim(what: str, run_id: str, seconds: float = 0.0) -> list[Lock]:
    for run in (run_id, socket_names.short(run_id)):
        try:
            return [socket_names.bind("%s/%s/%d" % (what, run, time.time() + seconds))]
        except OSError:  # its name is too long, or it is only shown: not worth a run
            continue
    return []


def held() -> dict[int, Holder]:
    """``{GPU index: holder}`` of all locks held on this host now, whoever made them."""
    seen = socket_names.seen()
    found: dict[int, Holder] = older_gpu_locks.held(range(MOST_GPUS))
    for name in seen:
        index = name[4:]
        if name.startswith("gpu/") and index.isdigit() and int(index) < MOST_INDICES:
            found[int(index)] = _known(socket_names.uid_of(seen[name]))
    ends = {(run, uid): end for _, uid, run, end in _claims(seen, "until/")}
    for name, uid, run, since in _claims(seen, "gpu/"):
        holder = found.get(int(name[4:])) if name[4:].isdigit() else None
        if holder and holder.get("uid") == uid is not None:
            holder["run"], holder["since"] = run, since
            if (run, uid) in ends:
                holder["left"] = ends[run, uid] - time.time()
    return found


def registered() -> list[Holder]:
    """The runs of all users on this host now: ``user`` as the kernel knows it, the rest as claimed."""
    claims = _claims(socket_names.seen(), "run/")
    return [{**_known(uid), "run": run, "since": since} for _, uid, run, since in claims]


def _claims(seen: Mapping[str, Seen], kind: str) -> list[tuple[str, int | None, str, int]]:
    """``(name of the lock, uid, run, since)`` of what holders claim."""
    found: list[tuple[str, int | None, str, int]] = []
    of_user: dict[int | None, int] = {}
    claims = [name.rsplit("/", 2) for name in seen if name.startswith(kind)][:MOST_CLAIMS]
    for lock, run, since in [claim for claim in claims if len(claim) == 3]:
        if run_lock.is_run_name(run) and since.isdigit() and len(since) < 12:
            uid = socket_names.uid_of(seen["/".join((lock, run, since))])
            of_user[uid] = of_user.get(uid, 0) + 1
            if of_user[uid] <= MOST_OF_A_USER:
                found.append((lock, uid, run, int(since)))
    return sorted(found, key=lambda claim: claim[2])


def _known(uid: int | None) -> Holder:
    return {} if uid is None else {"uid": uid, "user": user_name(uid)}
