"""Writes the logs, metrics and live outputs that one host sends, at the pace of this machine's disk."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

from ...records import events as ev
from ...records.live_files import LiveFiles
from ...records.log_file import LogFile
from ...spec.errors import RecordError
from ...transport.agent_client import LIVE, METRICS
from ..concurrency import cancel
from ..context import RunContext
from ..listeners import OnLog
from .connection import HostConnection
from .journal_cursor import JournalCursor

#: Seconds between two looks whether this machine has room for logs again.
ROOM_PAUSE = 1.0


class LogIntake:
    """Takes pieces of logs.

    When the disk is full, pieces wait unacknowledged: the host soon sends no more, and its files hold
    the rest. Once the run is over on the host, one more attempt is made; then ``give_up`` is called,
    and ``unsaved`` says why logs are missing here.
    """

    def __init__(
        self,
        line: HostConnection,
        journal: JournalCursor,
        context: RunContext,
        on_log: OnLog,
        give_up: Callable[[], None],
    ) -> None:
        self.unsaved = ""
        self._line, self._journal, self._context = line, journal, context
        self._on_log, self._give_up = on_log, give_up
        self._files: dict[str, LogFile] = {}
        self._live = LiveFiles(context.folder.path, line.host.name)
        self._waiting: deque[tuple[str, int, bytes]] = deque()
        self._waits: asyncio.Task[None] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Bytes here, by log; of the metrics and live outputs, too."""
        live = {LIVE + path: size for path, size in self._live.sizes.items()}
        return live | {name: file.size for name, file in self._files.items()}

    @property
    def is_waiting(self) -> bool:
        """Whether pieces wait for room on the disk."""
        return bool(self._waiting)

    def has(self, sizes: Mapping[str, int]) -> bool:
        """Return whether at least so many bytes of these logs are here."""
        here = self.sizes
        return all(here.get(name, 0) >= size for name, size in sizes.items())

    def resume(self, names: Iterable[str]) -> None:
        """Continue the logs that another launcher has fetched."""
        known = [METRICS] if self._context.folder.has_metrics(self._line.host.name) else []
        self._files = {name: self._opened(name) for name in (*names, *known)}

    def forget_waiting(self) -> None:
        """Drop waiting pieces: the host is about to send them again."""
        self._waiting.clear()
        self._live.begin()

    def take(self, name: str, offset: int, data: bytes) -> bool:
        """Write a piece; return False when it waits and will be acknowledged later. Of outputs none
        waits: what has no room here comes with the other outputs."""
        if name.startswith(LIVE):
            self._live.take(name.removeprefix(LIVE), offset, data)
            return True
        if not self._waiting:
            try:
                self._save(name, offset, data)
                return True
            except RecordError as error:
                self._context.add(ev.LogsWaiting(time.time(), self._line.host.name, str(error)))
                self._waits = asyncio.ensure_future(self._wait_for_room(str(error)))
        self._waiting.append((name, offset, data))
        return False

    def _save(self, name: str, offset: int, data: bytes) -> None:
        file = self._files.get(name)
        if file is None:
            file = self._files[name] = self._opened(name)
        new = file.write(offset, data)
        if new and name != METRICS:
            self._context.folder.came(name, file.size)
            self._on_log(self._line.host.name, name, new)

    def _opened(self, name: str) -> LogFile:
        folder = self._context.folder
        return folder.metrics(self._line.host.name) if name == METRICS else folder.log(name)

    async def _wait_for_room(self, why: str) -> None:
        while self._waiting:
            over = self._journal.has_end
            await asyncio.sleep(ROOM_PAUSE)
            try:
                self._save_waiting()
            except RecordError:
                if over:
                    self.unsaved = why
                    self._give_up()
                    return
        self._context.add(ev.LogsResumed(time.time(), self._line.host.name))

    def _save_waiting(self) -> None:
        while self._waiting:
            self._save(*self._waiting[0])
            self._line.agent.acknowledge(len(self._waiting.popleft()[2]))

    async def close(self) -> None:
        """Stop waiting for room."""
        await cancel(self._waits)
