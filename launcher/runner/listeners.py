"""Callbacks for the events and logs of a run."""

from __future__ import annotations

from collections.abc import Callable

from ..records import events as ev

#: Called with every event, as it happens.
OnEvent = Callable[[ev.Event], None]
#: Called with new bytes of a log: host, name of the log, bytes.
OnLog = Callable[[str, str, bytes], None]


def ignore_event(event: ev.Event) -> None:
    """Do nothing with an event."""


def ignore_log(host: str, name: str, data: bytes) -> None:
    """Do nothing with log bytes."""
