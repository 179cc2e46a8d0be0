"""The folder of a run: its name, and the lock that its supervisor holds for as long as it lives."""

from __future__ import annotations

import fcntl
import os


def is_run_name(text: object) -> bool:
    """Return whether a text may be the name of a run, and so of a folder."""
    if not isinstance(text, str) or not 0 < len(text) <= 80 or text.startswith("."):
        return False
    return text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum()


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
    return is_held(os.path.join(run_dir, "supervisor.lock"))


def is_held(path: str) -> bool:
    """Return whether somebody holds a lock for himself."""
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # a FIFO would hang us
        lock = os.open(path, flags)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
