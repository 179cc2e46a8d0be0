"""The position up to which the journal of one host was read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ...records import events as ev


class JournalCursor:
    """Continues a journal where reading stopped, and lets each record pass once.

    ``heard`` are the numbers of the records that are here: one whose line was damaged since is read
    again.
    """

    def __init__(self, heard: Iterable[int] = ()) -> None:
        self.offset = 0  # the byte after the last record that was read
        self.may_be_empty = False  # the launcher that started the run may not have got this far
        self.has_end = False  # the supervisor's last record was read
        self._heard = set(heard)

    @property
    def is_complete(self) -> bool:
        """Whether the journal is complete, once its supervisor has exited."""
        return self.has_end or (self.may_be_empty and self.offset == 0)

    def take(
        self, host: str, record: Mapping[str, Any], end: int, clock_offset: float
    ) -> ev.Event | None:
        """Return the event of a record; None for a record that was read before, or of a kind that
        this version does not know. ``end`` is the offset after the record."""
        self.offset = end
        if record["event"] in ("SupervisorStarted", "HostEnded"):
            self.has_end = record["event"] == "HostEnded"
        if record["seq"] in self._heard:
            return None
        self._heard.add(record["seq"])
        return ev.from_journal(host, record, clock_offset, time.time())
