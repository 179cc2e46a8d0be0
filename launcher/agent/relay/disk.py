"""Brings files to the disk, so that a power cut does not take them.

Never by sync(2): that waits for every file system of the machine, also for what others write elsewhere,
and for ever where one of them is a network's that does not answer.
"""

from __future__ import annotations

import os
import threading

from ..base import plain_files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import List

#: Files and folders that are brought to the disk one by one; of more, it is all of their file system.
FEW = 100


def flush(place: str, going_on: Callable[[], object] = lambda: None) -> None:
    """Have all files of a folder on the disk. Of few files, nothing else is waited for: what others
    have written there may take long. Raises OSError."""
    trouble: List[BaseException] = []

    def work() -> None:
        try:
            _flush(place)
        except BaseException as error:
            trouble.append(error)

    thread = threading.Thread(target=work)
    thread.daemon = True
    thread.start()
    while thread.is_alive():
        thread.join(1.0)
        going_on()
    if trouble:
        raise trouble[0]


def _flush(place: str) -> None:
    paths = []
    for base, _, names in plain_files.walk(place):
        paths += [base, *(os.path.join(base, name) for name in names)]
        if len(paths) > FEW and _sync_all(place):
            return
    for path in paths:
        if not os.path.islink(path):
            _with(path, os.fsync)


def _sync_all(place: str) -> bool:
    """Bring all of a file system to its disk; return False where Python cannot call that."""
    try:
        import ctypes

        syncfs = ctypes.CDLL(None, use_errno=True).syncfs
    except (ImportError, OSError, AttributeError):
        return False

    def call(opened: int) -> None:
        if syncfs(opened):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), place)

    _with(place, call)
    return True


def _with(path: str, call: Callable[[int], object]) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        call(opened)
    finally:
        os.close(opened)
