"""Requests of other processes to the one that follows a run: stop it, fetch outputs, wait elsewhere.

A wish is a file in the run's folder. Ten times a second, the follower looks whether that folder has
changed, and once a second it reads all wishes: not every file system tells a change exactly. A signal
would need a handler, which a library must not install, and would kill a program that has none.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..records.record_files import read_json, write_json
from ..records.run_folder import RunFolder
from ..records.run_lock import has_open
from ..spec.errors import LauncherError, RecordError
from ..spec.files import open_plain

if TYPE_CHECKING:
    from .run import Run

#: Seconds between two looks at the folder, and how many of them until all wishes are read.
LOOK, LOOKS = 0.1, 10
_STOP, _PULL, _MOVE, _MOVED = "stop.json", "pull.json", "move.json", "moved.json"


def ask_stop(path: Path, grace: float) -> None:
    """Ask the follower to stop a run with ``grace`` seconds; a second request kills.

    Raises RecordError.
    """
    _note(path / _STOP, {"grace": grace, "asked": _asked(path, _STOP) + 1})
    _signal_older(path, signal.SIGINT)


def note_grace(path: Path, grace: float) -> None:
    """Note the grace of a stop that this process carries out itself. Raises RecordError."""
    _note(path / _STOP, {"grace": grace, "asked": _asked(path, _STOP)})


def ask_pull(path: Path) -> None:
    """Ask the follower to fetch outputs now. Raises RecordError."""
    _note(path / _PULL, {"asked": _asked(path, _PULL) + 1})
    _signal_older(path, signal.SIGUSR1)


def ask_move(path: Path, priority: int | None, first: bool) -> None:
    """Ask the follower of a waiting run to wait with another priority, or as the first of its own.

    Raises RecordError.
    """
    _note(path / _MOVE, {"first": first, "priority": priority})


class Wishes:
    """The wishes of other processes for a run that this process follows."""

    def __init__(self, folder: RunFolder) -> None:
        self._path = folder.path
        self._changed = 0  # when the folder was, in nanoseconds since the epoch
        self._heard = {name: _asked(self._path, name) for name in (_STOP, _PULL)}
        #: Whether a stop was requested that the previous follower may not have carried out.
        self.stop_pending = self._heard[_STOP] > 0

    async def carry_out(self, run: Run) -> None:
        """Carry out wishes, until cancelled."""
        for look in count():
            await asyncio.sleep(LOOK)
            if not self._has_changed() and look % LOOKS:
                continue
            for _ in range(self._new(_STOP)):
                run.stop()
            if self._new(_PULL):
                run.pull_now()
            if (wish := _taken(self._path)) is not None:
                run.move(*wish)

    def _has_changed(self) -> bool:
        """Return whether files of the run's folder have come or gone since the last look."""
        try:
            now = os.stat(self._path).st_mtime_ns
        except OSError:
            return True
        before, self._changed = self._changed, now
        return now != before

    def _new(self, name: str) -> int:
        before, self._heard[name] = self._heard[name], _asked(self._path, name)
        return self._heard[name] - before


def _taken(path: Path) -> tuple[int | None, bool] | None:
    """Take the wish to be moved, if there is one: nobody else reads it, and it may be older than this
    follower."""
    try:
        os.replace(path / _MOVE, path / _MOVED)
        wish: Any = read_json(path / _MOVED)
        priority = wish.get("priority")
        return (priority if priority in (-1, 0, 1) else None), bool(wish.get("first"))
    except (OSError, ValueError, AttributeError):
        return None


def _note(file: Path, wish: Mapping[str, Any]) -> None:
    try:
        write_json(file, wish)
    except OSError as error:
        raise RecordError(file, error) from None


def _asked(path: Path, name: str) -> int:
    try:
        wish: Any = read_json(path / name)
        return int(wish.get("asked", 0))
    except (OSError, ValueError, TypeError, AttributeError):
        return 0


def _signal_older(path: Path, number: signal.Signals) -> None:
    """Signal a follower of an older version, which reads no wishes and wrote its pid without a line
    end."""
    try:
        lock = open_plain(path / "launcher.lock")
    except OSError:
        return  # nobody follows the run
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            pid = lock.read()
            if not pid.isdigit():
                return  # it reads wishes: their file is enough, on whichever machine it is
            if not has_open(path, int(pid)):
                raise LauncherError(
                    f"{path.name} is followed by an older launcher on another machine (pid "
                    f"{int(pid)} there), which hears signals only",
                    "stop it there, or end that launcher and attach here",
                ) from None
            with suppress(ProcessLookupError):
                os.kill(int(pid), number)
