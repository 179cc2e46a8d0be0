"""How the journals of hosts are read, and compared with the record of a run."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from launcher.records import events as ev
from launcher.records.state import RunState


def lines(data: bytes) -> list[dict[str, Any]]:
    """Return the records of a file that is being written: of its last line there may be a part."""
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


def told(host: str, journal: Iterable[dict[str, Any]], offset: float) -> list[ev.Event]:
    """Return the events of a journal, as they come over the wire."""
    wire = (json.loads(json.dumps(line)) for line in journal)
    events = (ev.from_journal(host, line, offset) for line in wire)
    return [event for event in events if event is not None]


def truth(state: RunState) -> dict[str, Any]:
    """Return what hosts know about a run, without what only a launcher sees, such as their silence."""
    return {
        "status": (state.status, state.reason),
        "attempt": state.attempt,
        "processes": dict(state.processes),
        "failure": state.failure,
        "ended": state.ended_hosts,
        "gpus": dict(state.gpus_used),
        "expired": dict(state.expired),
        "stalled": dict(state.stalled),
    }
