"""GPU locks of launcher 0.1 on this host: files in a folder that all its users may write to.

Nothing is made, written or waited for there. A lock of 0.1 is respected; where its file exists, ours
is also visible to 0.1.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

from ..base import lean, run_lock
from ..processes.processes import user_name, user_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    import io
    from collections.abc import Iterable

    from ..base.messages import Holder

#: Tries before a lock counts as held: a look of 0.1 at it takes microseconds.
LOOKS = 20


class Busy(Exception):
    """Somebody holds the file of a GPU."""

    def __init__(self, index: int, holder: Holder) -> None:
        super().__init__("GPU %d is in use" % index)
        self.index, self.holder = index, holder


def take(index: int, shared: bool) -> list[io.FileIO]:
    """Lock the file of a GPU, if there is one; return what to close. Raises Busy.

    Runs that have MIG instances of one GPU hold it ``shared``: 0.1 takes it alone.
    """
    folder = _folder()
    if folder is None:
        return []
    try:
        file = _open(folder, index)
    finally:
        os.close(folder)
    if file is None:
        return []
    if not _lock(file.fileno(), shared):
        holder = _holder(file.fileno())
        file.close()
        raise Busy(index, holder)
    return [file]


def _lock(fd: int, shared: bool) -> bool:
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    for _ in range(LOOKS):
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
            return True
        except OSError:
            time.sleep(0.002)
    return False


def held(indices: Iterable[int]) -> dict[int, Holder]:
    """Return ``{GPU index: holder}`` of those of ``indices`` whose file is locked now."""
    found: dict[int, Holder] = {}
    folder = _folder()
    if folder is None:
        return found
    for index in indices:
        file = _open(folder, index)
        if file is not None:
            try:
                fcntl.flock(file.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                found[index] = _holder(file.fileno())
            file.close()
    os.close(folder)
    return found


def _folder() -> int | None:
    usual = None if os.environ.get("LAUNCHER_LOCK_SCOPE") else "/var/tmp/launcher-leases"
    place = os.environ.get("LAUNCHER_LEASE_DIR") or usual
    try:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(place, flags) if place else None
    except OSError:
        return None


def _open(folder: int, index: int) -> io.FileIO | None:
    """Open a plain file with one name: no FIFO, which hangs, and no link to somebody else's file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open("gpu-%d" % index, flags, dir_fd=folder)
    except OSError:
        return None
    about = os.fstat(fd)
    if stat.S_ISREG(about.st_mode) and about.st_nlink == 1:
        return open(fd, "rb", buffering=0)
    os.close(fd)
    return None


def _holder(fd: int) -> Holder:
    """Return the user by /proc/locks, and run and time as the holder wrote them."""
    uid = _uid(fd)
    holder: Holder = {} if uid is None else {"uid": uid, "user": user_name(uid)}
    try:
        written = lean.loads(os.pread(fd, 4096, 0).decode())
    except (OSError, ValueError, RecursionError):
        return holder
    if isinstance(written, dict):
        run, since = written.get("run"), written.get("since")
        if isinstance(run, str) and run_lock.is_run_name(run):
            holder["run"] = run
        if isinstance(since, float) and 0 <= since < 1e11:
            holder["since"] = since
    return holder


def _uid(fd: int) -> int | None:
    about = os.fstat(fd)
    file = "%02x:%02x:%d" % (os.major(about.st_dev), os.minor(about.st_dev), about.st_ino)
    try:
        with open("/proc/locks") as locks:
            for line in locks:
                words = line.split()
                if len(words) > 5 and words[1] == "FLOCK" and words[5] == file:
                    return user_of(int(words[4]))
    except (OSError, ValueError):
        pass
    return None
