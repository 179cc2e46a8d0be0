"""How relays tell a process that stores outputs by itself that a launcher is in touch, or takes over.

That process holds a lock of a file in the run's folder. Relays touch the file, and it holds still for
as long as they do; they write into it, and it ends. See relay/unattended.py.
"""

from __future__ import annotations

import fcntl
import os
import time

from . import plain_files, protocol

#: The file, and what stands in it for the end.
NAME, END = "upload", b"end"
#: Seconds for the process to be gone, and between two looks.
GONE, LOOK = 15.0, 0.02


def touch(run_dir: str) -> None:
    """Say that a launcher is in touch."""
    try:
        os.utime(os.path.join(run_dir, NAME))
    except OSError:
        pass  # nobody wants to know


def own() -> int | None:
    """Take the file of the run in this folder; return its lock, or None while another process has it."""
    lock = plain_files.opened(NAME, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    os.ftruncate(lock, 0)
    return lock


def end(run_dir: str) -> bool:
    """End the process that stores outputs of a run, and return whether there was one.

    Raises Refused where it does not end.
    """
    path = os.path.join(run_dir, NAME)
    try:
        lock = plain_files.opened(path, os.O_RDWR)
    except OSError:
        return False
    try:
        was_there, deadline = False, time.monotonic() + GONE
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise protocol.Refused("busy", "what stores outputs there does not end")
            if not was_there:
                was_there = os.pwrite(lock, END, 0) > 0
            time.sleep(LOOK)
        forget(path)
        return was_there
    finally:
        os.close(lock)


def forget(path: str = NAME) -> None:
    """Remove the file, if it is there."""
    try:
        os.unlink(path)
    except OSError:
        pass
