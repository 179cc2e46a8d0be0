"""Who follows a run: the process that holds ``launcher.lock`` in its folder.

A process that dies lets go of it, however it dies. The lock contains the holder's pid; ``follower.json``
says of which machine, since the folder may be on a network file system.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from ..spec.errors import UnreadableRecord
from ..spec.files import open_plain
from ..spec.frozen import frozen
from ..spec.typed_json import to_json
from .record_files import read_as, write_json

LOCK, FOLLOWER = "launcher.lock", "follower.json"
#: Tries to get the lock of a run at which somebody looks (see ``holder``), and seconds between two.
LOOKS, LOOK = 500, 0.01


@frozen
class Follower:
    """A process that follows a run. The folder may be on a network file system, and the process on
    another machine or, with the same pid, in another container."""

    pid: int
    host: str = ""
    boot: str = ""

    @classmethod
    def this_process(cls) -> Follower:
        """Return the process that asks."""
        return cls(os.getpid(), socket.gethostname(), _boot_id())

    def __str__(self) -> str:
        here = self.host in ("", socket.gethostname())
        return f"process {self.pid}" + ("" if here else f" on {self.host}")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def follower(path: Path) -> Follower | None:
    """Return the process that follows the run of this folder, or None. Raises UnreadableRecord."""
    pid = holder(path)
    if pid is None:
        return None
    noted = read_as(Follower, path / FOLLOWER)
    return noted if noted is not None and noted.pid == pid else Follower(pid)


def has_open(path: Path, pid: int) -> bool:
    """Return whether a process of this machine has the lock of a run open.

    A pid alone may belong to another machine that shares the folder, and here to an innocent process.
    """
    try:
        lock = (path / LOCK).stat()
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                if os.path.samestat(file.stat(), lock):
                    return True
    except OSError:  # it is gone or of another user, or this is not Linux
        pass
    return False


def holder(path: Path) -> int | None:
    """Return the pid of the process that follows the run of this folder; 0 until it has written its
    pid, and None if no process follows the run. Raises UnreadableRecord."""
    try:
        with open_plain(path / LOCK) as looking:
            try:
                fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                pid = looking.read(32).strip()
                return int(pid) if pid.isdigit() else 0
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnreadableRecord(str(path / LOCK), str(error.strerror)) from None
    return None


class RunLock:
    """The lock of a run, open in this process. ``fd`` is what another process handed over."""

    def __init__(self, path: Path, fd: int | None = None) -> None:
        self._path, self._is_held = path, False
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._fd = os.open(path / LOCK, flags, 0o600) if fd is None else fd

    @classmethod
    def of_new_run(cls, path: Path) -> RunLock:
        """Return the lock of a new run, before anybody can see the run and take it."""
        lock = cls(path)
        fcntl.flock(lock._fd, fcntl.LOCK_EX)
        return lock

    def hold(self) -> bool:
        """Make this process the one that follows the run; return False when another one does."""
        for _ in range(LOOKS):
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not self._is_looked_at():
                    return False
            time.sleep(LOOK)
        else:
            return False
        self._is_held = True
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        with suppress(OSError):  # a full disk here: it is for people
            write_json(self._path / FOLLOWER, to_json(Follower.this_process()))
        return True

    def _is_looked_at(self) -> bool:
        """Return whether nobody follows the run, and somebody looks at this moment who does."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return False
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return True

    def hand_over(self) -> int:
        """Return a descriptor for a process that inherits it: the run stays held."""
        handed = os.dup(self._fd)
        self._leave_no_pid()
        self._is_held = False
        return handed

    def close(self) -> None:
        """Let go of the run, if this process holds it."""
        if self._is_held:
            self._leave_no_pid()
            fcntl.flock(self._fd, fcntl.LOCK_UN)  # a child that is being started still has it open
        os.close(self._fd)

    def _leave_no_pid(self) -> None:
        """Have nobody take the next holder for this process, until it has written its own pid."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
