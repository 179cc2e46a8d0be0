"""Reads what is new in the folder of a run, journal and logs, and says it."""

from __future__ import annotations

import os
import time

from ..base import protocol
from ..base.journal import read_from
from ..host import run_folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

#: Seconds between two looks for new log bytes: right after some came, and when it is quiet.
EAGER, QUIET = 0.02, 0.25


class Follow:
    """``say(message, payload)`` is called with what is new, never further ahead than the window."""

    def __init__(
        self, run_dir: str, say: Callable[..., None], journal: int, logs: dict[str, int]
    ) -> None:
        self.run_dir, self._say = run_dir, say
        self.journal = journal
        self.offsets = dict(logs)
        self.files: dict[str, int] = {}
        self.last_sent = ""
        self.unacknowledged = 0
        self.ended = False  # the supervisor is gone: what stands in the files is all there will be
        self.idle = False
        self.next_look, self.pause = 0.0, EAGER

    def patience(self) -> float:
        """Seconds until the next look."""
        if self.idle or self.unacknowledged >= protocol.WINDOW:
            return 30.0
        return max(0.0, self.next_look - time.monotonic())

    def acknowledged(self, size: int) -> None:
        """The other side has taken ``size`` bytes."""
        self.unacknowledged -= size
        self.next_look = 0.0

    def eager(self) -> None:
        """Something happened: look now."""
        self.next_look, self.pause = 0.0, EAGER

    def pump(self) -> None:
        """One look at everything, when it is time for one."""
        if self.idle or time.monotonic() < self.next_look:
            return
        last = self.ended  # read before the files are, so that nothing can come after the last look
        moved = self._send_journal()
        more = self._send_logs()
        self.pause = EAGER if moved or more else min(QUIET, self.pause * 1.5)
        self.next_look = 0.0 if more == "full" else time.monotonic() + self.pause
        if last and not more:
            self.idle = True
            self._say({"idle": dict(self.offsets), "journal_end": self.journal})

    def _send_journal(self) -> bool:
        records = read_from(os.path.join(self.run_dir, "journal.jsonl"), self.journal)
        for record, end in records:
            self.journal = end
            self._say({"journal": record, "end": end})
        return bool(records)

    def _send_logs(self) -> bool | Literal["full"]:
        """Returns "full" when the window is, True when something was sent, False when not.

        A piece of each log in turn, so that a loud rank does not keep a quiet one waiting.
        """
        sent, more = False, True
        while more:
            more = False
            for name, path in self._in_turn():
                if self.unacknowledged >= protocol.WINDOW:
                    return "full"
                offset = self.offsets.setdefault(name, 0)
                piece = os.pread(self._open(path), protocol.PIECE, offset)
                if piece:
                    self._say({"log": name, "offset": offset}, piece)
                    self.offsets[name] = offset + len(piece)
                    self.unacknowledged += len(piece)
                    self.last_sent = name
                    sent = more = True
        return sent

    def _in_turn(self) -> list[tuple[str, str]]:
        """The logs, the one after the last that was sent first."""
        logs = list(run_folders.logs_of(self.run_dir))
        return [log for log in logs if log[0] > self.last_sent] + [
            log for log in logs if log[0] <= self.last_sent
        ]

    def _open(self, path: str) -> int:
        if path not in self.files:
            self.files[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        return self.files[path]
