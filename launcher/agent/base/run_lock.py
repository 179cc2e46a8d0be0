"""The lock in the folder of a run: its supervisor holds it for as long as it lives."""

from __future__ import annotations

import fcntl
import os


def owner(run_dir: str) -> int | None:
    """Return the pid of the supervisor that owns the run, or None where the kernel names none."""
    try:
        inode = ":%d" % os.stat(os.path.join(run_dir, "supervisor.lock")).st_ino
        with open("/proc/locks") as locks:
            for line in locks:  # 1: FLOCK  ADVISORY  WRITE 4242 fe:01:131090 0 EOF
                words = line.split()
                if "FLOCK" in words and "WRITE" in words and words[-3].endswith(inode):
                    return int(words[-4]) or None
    except (OSError, ValueError):
        pass
    return None


def is_alive(run_dir: str) -> bool:
    """Return whether a supervisor owns the run."""
    try:
        lock = os.open(os.path.join(run_dir, "supervisor.lock"), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
