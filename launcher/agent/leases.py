"""GPU leases without a daemon: one ``flock``ed file a GPU, held by the supervisor of a run.

Not responsible for which GPUs a run gets. A crash of the holder frees its leases at once, because
the kernel drops the lock with the descriptor. Everybody on the host can read who holds what.
"""

import fcntl
import json
import os
import time

#: Tries before a lock counts as held: a look at it takes microseconds.
LOOKS = 20


class Busy(Exception):
    """A GPU is leased to somebody else: ``index`` and ``holder`` (user, run, since)."""

    def __init__(self, index, holder):
        super().__init__("GPU %d is leased" % index)
        self.index = index
        self.holder = holder


def folder():
    """Where the lease files of this host lie: shared by all its users."""
    return os.environ.get("LAUNCHER_LEASE_DIR", "/var/tmp/launcher-leases")


def take(indices, run_id):
    """Leases all of ``indices`` or none. Returns the descriptors to keep open. Raises Busy."""
    taken = []
    try:
        for index in indices:
            taken.append(_take_one(index, run_id))
    except BaseException:
        for fd in taken:
            os.close(fd)
        raise
    return taken


def _take_one(index, run_id):
    fd = _open(index)
    try:
        _lock(fd)
    except OSError:
        holder = _holder(fd)
        os.close(fd)
        raise Busy(index, holder)
    text = json.dumps({"user": _user(), "run": run_id, "since": time.time()})
    os.ftruncate(fd, 0)
    os.pwrite(fd, text.encode(), 0)
    return fd


def _lock(fd):
    """The lock; raises OSError. Whoever only looks (:func:`held`) holds it for an instant."""
    for _ in range(LOOKS):
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.002)
    return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _open(index):
    place = folder()
    if not os.path.isdir(place):
        os.makedirs(place, exist_ok=True)
        try:
            os.chmod(place, 0o777)  # no sticky bit: with it, fs.protected_regular bars other users
        except PermissionError:
            pass  # somebody else made it a moment ago
    path = os.path.join(place, "gpu-%d" % index)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    try:
        os.fchmod(fd, 0o666)
    except PermissionError:
        pass  # not our file: whoever made it has done so
    return fd


def _holder(fd):
    try:
        return json.loads(os.pread(fd, 4096, 0).decode() or "{}")
    except ValueError:
        return {}


def _user():
    try:
        import pwd

        return pwd.getpwuid(os.getuid()).pw_name
    except Exception:  # no passwd entry: a number is still a name
        return str(os.getuid())


def held():
    """``{GPU index: holder}`` of all leases held on this host now."""
    found = {}
    try:
        names = os.listdir(folder())
    except OSError:
        return found
    for name in names:
        if not name.startswith("gpu-") or not name[4:].isdigit():
            continue
        try:
            fd = os.open(os.path.join(folder(), name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            found[int(name[4:])] = _holder(fd)
        finally:
            os.close(fd)
    return found
