"""Sends what is new in the journal, the logs, the metrics and the live outputs of a run."""

from __future__ import annotations

import os
import time

from ..base import plain_files, protocol
from ..base.journal import read_from
from ..host import run_folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Literal

    from ..base.messages import Message
    from .appended import Appended

#: Seconds between two looks for new log bytes: right after there were some, and when it is quiet.
EAGER, QUIET = 0.02, 0.25
#: Logs that stay open; others are opened at each look.
OPEN_LOGS = 16


class Follow:
    """Calls ``say(message, payload)`` with what is new; unacknowledged bytes never exceed WINDOW."""

    def __init__(
        self,
        run_dir: str,
        say: Callable[..., None],
        journal: int,
        logs: dict[str, int],
        live: Message | None = None,
    ) -> None:
        self.run_dir, self._say = run_dir, say
        self.journal = journal
        self.offsets = dict(logs)
        self.files: dict[str, int] = {}
        self.last_sent = ""
        self.unacknowledged = 0
        self.ended = False  # the supervisor is gone: the files will not grow any more
        self.idle = False
        self.next_look, self.pause = 0.0, EAGER
        self._wanted = live
        self._live: Appended | None = None  # outputs that travel as logs do

    def patience(self) -> float:
        """Return the seconds until the next look."""
        if self.idle or self.unacknowledged >= protocol.WINDOW:
            return 30.0
        return max(0.0, self.next_look - time.monotonic())

    def acknowledged(self, size: int) -> None:
        """Note that the launcher has taken ``size`` bytes."""
        self.unacknowledged -= size
        self.next_look = 0.0

    def eager(self) -> None:
        """Look now: something happened."""
        self.next_look, self.pause = 0.0, EAGER

    def pump(self) -> None:
        """Look at everything once, if it is time to."""
        if self.idle or time.monotonic() < self.next_look:
            return
        last = self.ended  # before the files are read: nothing is written after the last look
        moved = self.send_journal()
        self._look_for_outputs(last)
        more = self._send_logs()
        self.pause = EAGER if moved or more else min(QUIET, self.pause * 1.5)
        self.next_look = 0.0 if more == "full" else time.monotonic() + self.pause
        if last and not more:
            self.idle = True
            self._say({"idle": dict(self.offsets), "journal_end": self.journal})

    def send_journal(self) -> bool:
        """Send what is new in the journal; return whether anything is."""
        records = read_from(os.path.join(self.run_dir, "journal.jsonl"), self.journal)
        for record, end in records:
            self.journal = end
            self._say({"journal": record, "end": end})
        return bool(records)

    def _look_for_outputs(self, last: bool) -> None:
        if self._wanted is None:
            return
        if self._live is None:
            from .appended import Appended

            self._live = Appended.of(self.run_dir, self._wanted)
        self._live.look(last)

    def _send_logs(self) -> bool | Literal["full"]:
        """Send a piece of each log in turn, so that a loud rank does not delay a quiet one.

        Return "full" when the window is full, else whether anything was sent.
        """
        sent, more = False, True
        while more:
            more = False
            for name, path in self._in_turn():
                if self.unacknowledged >= protocol.WINDOW:
                    return "full"
                offset = self.offsets.setdefault(name, 0)
                piece = self._read(name, path, offset)
                if piece:
                    self._say({"log": name, "offset": offset}, piece)
                    self.offsets[name] = offset + len(piece)
                    self.unacknowledged += len(piece)
                    self.last_sent = name
                    sent = more = True
        return sent

    def _in_turn(self) -> list[tuple[str, str]]:
        """Return the logs, the metrics and the live outputs, starting behind what was sent last."""
        logs = list(run_folders.logs_of(self.run_dir))
        metrics = os.path.join(self.run_dir, protocol.METRICS)
        logs += [(protocol.METRICS, metrics)] if os.path.exists(metrics) else []
        logs += self._live.files.items() if self._live else []
        return [log for log in logs if log[0] > self.last_sent] + [
            log for log in logs if log[0] <= self.last_sent
        ]

    def _read(self, name: str, path: str, offset: int) -> bytes:
        """Read a piece of a log. Few files stay open: there may be more than descriptors."""
        size, flags = protocol.PIECE, os.O_RDONLY
        if name.startswith(protocol.LIVE):
            size = max(0, min(protocol.LIVE_PIECE, protocol.LIVE_BYTES - offset))
            flags |= os.O_NOFOLLOW
        if path in self.files:
            return os.pread(self.files[path], size, offset)
        try:
            fd = plain_files.opened(path, flags)
        except OSError:  # removed while the run goes on, or never a log
            return b""
        piece = os.pread(fd, size, offset)
        if len(self.files) < OPEN_LOGS:
            self.files[path] = fd
        else:
            os.close(fd)
        return piece
