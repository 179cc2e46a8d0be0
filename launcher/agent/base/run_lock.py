"""The lock in the folder of a run: its supervisor holds it for as long as it lives."""

from __future__ import annotations

import fcntl
import os


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
