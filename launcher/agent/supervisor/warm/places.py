"""The places of Pythons that are kept for other runs: folders of this user, each with one owner.

Nothing of a run is in them once that is over: the programs that are first in PATH, what imports have
printed, a socket, and what the place is for. See docs/decisions/0088-kept-between-runs.md.
"""

from __future__ import annotations

import binascii
import fcntl
import os
import time

from ...base import lean, plain_files, programs, run_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

#: The folder below launcher's that has them.
FOLDER = "warm"
#: In a place: where its owner listens, and what it waits for. The second one is there while it waits.
SOCKET, ABOUT = "sock", "about.json"
#: In a place: stands for the folder of the code, and leads to that of a run while it goes on.
CODE = "code"
#: Seconds for the owner of a new place to take it.
TAKEN = 60.0


def make(root: str) -> str:
    """Make a place, and return it."""
    place = os.path.join(root, FOLDER, binascii.hexlify(os.urandom(6)).decode())
    os.makedirs(os.path.dirname(place), mode=0o700, exist_ok=True)
    os.mkdir(place, 0o700)
    return place


def programs_of(place: str) -> dict[str, str]:
    """Return the programs of a place that are first in PATH. Raises OSError."""
    folder, found = os.path.join(place, "bin"), {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name)) as file:
            found[name] = file.read()
    return found


def own(place: str) -> int:
    """Become the owner of a place, as long as what is returned is open. Raises OSError."""
    lock = os.open(
        os.path.join(place, "supervisor.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
    )
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise
    return lock


def waiting(root: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the places whose owners wait for a run, with what they are for; the newest first."""
    found = []
    for place in _all(root):
        about = known(place)
        if about is not None and run_lock.is_alive(place):
            found.append((place, about))
    yield from sorted(found, key=lambda each: -float(each[1].get("until", 0.0)))


def known(place: str) -> dict[str, Any] | None:
    """Return what a place is for; None where nobody waits in it."""
    try:
        about = lean.loads(plain_files.content(os.path.join(place, ABOUT)).decode())
    except (OSError, ValueError, RecursionError):
        return None
    return about if isinstance(about, dict) else None


def write(place: str, about: dict[str, Any]) -> None:
    """Write what a place is for, where nobody finds it yet. Raises OSError."""
    path = os.path.join(place, ABOUT + ".new")
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(lean.dumps(about))


def show(place: str) -> None:
    """Have others find what was written. Raises OSError."""
    path = os.path.join(place, ABOUT)
    os.rename(path + ".new", path)


def close(place: str) -> None:
    """Have nobody find the owner of a place any more."""
    for name in (ABOUT, SOCKET):
        try:
            os.unlink(os.path.join(place, name))
        except OSError:
            pass


def forget_code(place: str) -> None:
    """Remove what leads to the code of a run, and what was written there before it led to that."""
    for name in os.listdir(place):
        if name.split(".")[0] == CODE:
            _remove(os.path.join(place, name))


def remove(place: str) -> None:
    """Remove a place."""
    programs.remove(place)
    _remove(place)


def _remove(path: str) -> None:
    if os.path.islink(path):
        _try(os.unlink, path)
        return
    plain_files.remove_folder(path)


def clear(root: str) -> None:
    """Remove the places whose owners were killed."""
    for place in _all(root):
        try:
            age = time.time() - os.stat(place).st_mtime
        except OSError:
            continue
        if age > TAKEN and not run_lock.is_alive(place):
            remove(place)


def _all(root: str) -> list[str]:
    folder = os.path.join(root, FOLDER)
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
    except OSError:
        return []


def _try(function: Any, path: str) -> None:
    try:
        function(path)
    except OSError:
        pass
