"""Asks about paths whose file system may never answer: a network's whose server is gone, or one of FUSE
whose program hangs.

Whoever asks such a file system waits for ever, and some cannot even be killed. So a child of this
process asks, which has nothing of it open. If it is not back in time, it is left to its fate, and the
file system is known as silent for a while.
"""

from __future__ import annotations

import os
import select
import time

from . import lean, plain_files
from .lean import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Dict, List, Tuple

#: Seconds for a path, during which an automounter may have to mount it; for several of them; and for
#: which a silent file system is not asked again.
ONE, ALL, SILENT = 10.0, 30.0, 60.0
#: PR_SET_PDEATHSIG of prctl(2).
_DIE_WITH_PARENT = 1


class Silent(OSError):
    """A file system does not answer."""


def is_folder(path: str) -> bool:
    """Return whether there is such a folder. Raises Silent."""
    return bool(_child.ask("folder", path, ONE))


def is_there(path: str) -> bool:
    """Return whether there is something. Raises Silent."""
    return bool(_child.ask("there", path, ONE))


def real(path: str) -> str:
    """Return where a path leads to; "" where nothing is. Raises Silent."""
    return str(_child.ask("real", path, ONE))


def lacking(paths: Iterable[str]) -> Tuple[List[str], List[str]]:
    """Return those paths that are missing or not readable, and those of them that do not answer."""
    missing, silent, until = [], [], time.monotonic() + ALL
    for path in paths:
        try:
            if _child.ask("readable", path, min(ONE, until - time.monotonic())):
                continue
        except Silent:
            silent.append(path)
        missing.append(path)
    return missing, silent


def end() -> None:
    """Let go of the process that asks."""
    _child.end()


def _is_below(path: str, place: str) -> bool:
    return (path + "/").startswith(place.rstrip("/") + "/")


def _mount_of(path: str) -> str:
    """Return where the file system of a path is mounted; the path where that cannot be told without
    asking it, as behind links."""
    found = ""
    for line in plain_files.text("/proc/self/mounts").splitlines():
        place = line.split(" ")[1].encode().decode("unicode_escape")
        if place != "/" and len(place) > len(found) and _is_below(path, place):
            found = place
    return found or path


def _is_readable(path: str) -> bool:
    path = os.path.expanduser(path)
    if not os.access(path, os.R_OK):
        return False
    if os.path.isdir(path):
        with os.scandir(path) as found:  # the kernel may know all else of a server that is gone
            next(found, None)
    return True


def _real(path: str) -> str:
    found = os.path.realpath(path)
    return found if os.path.exists(found) else ""


_QUESTIONS: Dict[str, Callable[[str], Any]] = {
    "readable": _is_readable,
    "folder": os.path.isdir,
    "there": os.path.exists,
    "real": _real,
}


class _Child:
    """The process that asks: there is one at a time, until this process ends."""

    def __init__(self) -> None:
        self._pid, self._of = 0, 0
        self._asks = self._hears = -1
        self._silent: Dict[str, float] = {}  # where file systems are, until when

    def ask(self, question: str, path: str, seconds: float) -> Any:
        """Return the answer. Raises Silent."""
        now = time.monotonic()
        known = [place for place, until in self._silent.items() if now < until]
        if seconds <= 0 or any(_is_below(path, place) for place in known):
            raise Silent("%s does not answer" % path)
        if self._of != os.getpid():  # the one before is another's, or there is none
            self._start()
        try:
            os.write(self._asks, (lean.dumps([question, path]) + "\n").encode())
            answer = self._answer(now + seconds)
        except BrokenPipeError:
            answer = None
        if answer is None:
            self.end()
            self._silent[_mount_of(path)] = time.monotonic() + SILENT
            raise Silent("%s does not answer" % path)
        return answer[0]

    def _answer(self, until: float) -> Any:
        found = b""
        waiting = select.poll()
        waiting.register(self._hears, select.POLLIN)
        while not found.endswith(b"\n"):
            if not waiting.poll(max(0.0, until - time.monotonic()) * 1000):
                return None
            piece = os.read(self._hears, 1 << 16)
            if not piece:
                return None
            found += piece
        return lean.loads(found.decode())

    def _start(self) -> None:
        theirs, self._asks = os.pipe()
        self._hears, says = os.pipe()
        self._pid, self._of = os.fork(), os.getpid()
        if not self._pid:
            try:
                _serve(theirs, says)
            finally:
                os._exit(0)
        os.close(theirs)
        os.close(says)

    def end(self) -> None:
        """Leave the process to its fate."""
        if self._of != os.getpid():
            return
        self._of = 0
        os.close(self._asks)
        os.close(self._hears)
        try:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, os.WNOHANG)
        except OSError:
            pass


def _serve(asks: int, says: int) -> None:
    """Answer until nobody asks. Nothing that somebody waits for stays open: a connection, a lock."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for one in (0, 1, 2):
        if one not in (asks, says):
            os.dup2(nowhere, one)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in (asks, says):
            try:
                os.close(int(name))
            except OSError:
                pass  # the one that lists
    lean.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
    with os.fdopen(asks, "rb") as file:
        for line in file:
            question, path = lean.loads(line.decode())
            try:
                answer = _QUESTIONS[question](path)
            except (OSError, ValueError):
                answer = False
            os.write(says, (lean.dumps([answer]) + "\n").encode())


_child = _Child()
