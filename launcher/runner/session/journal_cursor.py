"""How far the journal of one host was read."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from ...records import events as ev


class JournalCursor:
    """Reads the journal from where it stopped, and lets each record pass once.

    ``heard`` are the numbers of the records that stand here: one whose line was damaged since is read
    again.
    """

    def __init__(self, heard: Iterable[int] = ()) -> None:
        self.offset = 0  # the byte after the last record that was read
        self.may_be_empty = False  # the launcher that began the run may not have come so far
        self.has_end = False  # the supervisor's last record was read
        self._heard = set(heard)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is missing from it when the supervisor is gone."""
        return self.has_end or (self.may_be_empty and self.offset == 0)

    def take(
        self, host: str, record: Mapping[str, Any], end: int, clock_offset: float
    ) -> ev.Event | None:
        """Return the event that a record stands for; None for a record that was heard before, or one
        that says nothing to us. ``end`` is the byte after it."""
        self.offset = end
        if record["event"] in ("SupervisorStarted", "HostEnded"):
            self.has_end = record["event"] == "HostEnded"
        if record["seq"] in self._heard:
            return None
        self._heard.add(record["seq"])
        return ev.from_journal(host, record, clock_offset, time.time())
