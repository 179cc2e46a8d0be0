"""GPU leases without a daemon: one ``flock``ed file a GPU, held by the supervisor of a run.

A crash of the holder frees its leases at once, because the kernel drops the lock with the
descriptor. Everybody on the host can read who holds what.
"""

from __future__ import annotations

import fcntl
import os
import time

from ..base import lean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.messages import Holder

#: Tries before a lock counts as held: a look at it takes microseconds.
LOOKS = 20


class Busy(Exception):
    """Leased to somebody else: ``index`` of a GPU and ``holder`` (user, run, since)."""

    def __init__(self, name: str, holder: Holder) -> None:
        super().__init__("%s is leased" % name)
        self.index = int(name[4:]) if name[4:].isdigit() else None
        self.holder = holder


def folder() -> str:
    """Where the lease files of this host lie: shared by all its users."""
    return os.environ.get("LAUNCHER_LEASE_DIR", "/var/tmp/launcher-leases")


def take(indices: Iterable[int], run_id: str) -> list[int]:
    """Leases all of ``indices`` or none. Returns the descriptors to keep open. Raises Busy."""
    taken = []
    try:
        for index in indices:
            taken.append(_take_one("gpu-%d" % index, run_id))
    except BaseException:
        for fd in taken:
            os.close(fd)
        raise
    return taken


def register(run_id: str) -> int | None:
    """Lets all users of the host see that a run is here, as long as the descriptor is open."""
    try:
        return _take_one("run-" + run_id, run_id)
    except (Busy, OSError):  # not worth a run
        return None


def _take_one(name: str, run_id: str) -> int:
    fd = _open(name)
    try:
        _lock(fd)
    except OSError:
        holder = _holder(fd)
        os.close(fd)
        raise Busy(name, holder)
    text = lean.dumps({"user": _user(), "run": run_id, "since": time.time()})
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode(), 0)
    return fd


def _lock(fd: int) -> None:
    """The lock; raises OSError. Whoever only looks (:func:`held`) holds it for an instant."""
    for _ in range(LOOKS):
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.002)
    return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open(name: str) -> int:
    place = folder()
    if not os.path.isdir(place):
        os.makedirs(place, exist_ok=True)
        try:
            os.chmod(place, 0o777)  # no sticky bit: with it, fs.protected_regular bars other users
        except PermissionError:
            pass  # somebody else made it a moment ago
    path = os.path.join(place, name)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        os.fchmod(fd, 0o666)
    except PermissionError:
        pass  # not our file: whoever made it has done so
    return fd


def _holder(fd: int) -> Holder:
    try:
        holder: Holder = lean.loads(os.pread(fd, 4096, 0).decode() or "{}")
        return holder
    except ValueError:
        return {}


def _user() -> str:
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except Exception:  # no passwd entry: a number is still a name
        return str(os.getuid())


def held() -> dict[int, Holder]:
    """``{GPU index: holder}`` of all leases held on this host now."""
    holders = _holders("gpu-")
    return {int(name): holder for name, holder in holders.items() if name.isdigit()}


def registered() -> dict[str, Holder]:
    """``{run: holder}`` of all runs of all users on this host now."""
    return _holders("run-")


def _holders(prefix: str) -> dict[str, Holder]:
    """The holders of all locked files with this prefix, by the rest of the name."""
    found: dict[str, Holder] = {}
    try:
        names = os.listdir(folder())
    except OSError:
        return found
    for name in names:
        if not name.startswith(prefix):
            continue
        try:
            fd = os.open(os.path.join(folder(), name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            found[name[len(prefix) :]] = _holder(fd)
        finally:
            os.close(fd)
    return found
