"""The folder of a run: its name, and the lock that its supervisor holds for as long as it lives."""

from __future__ import annotations

import fcntl
import os


def is_run_name(text: object) -> bool:
    """Return whether a text may be the name of a run, and so of a folder."""
    if not isinstance(text, str) or not 0 < len(text) <= 80 or text.startswith("."):
        return False
    return text.isascii() and text.replace("-", "").replace("_", "").replace(".", "").isalnum()


def is_alive(run_dir: str) -> bool:
    """Return whether a supervisor owns the run."""
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # a FIFO would hang us
        lock = os.open(os.path.join(run_dir, "supervisor.lock"), flags)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
