"""What the journals of hosts and the record of a run are compared by."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from launcher.records import events as ev
from launcher.records.state import RunState


def told(host: str, journal: Iterable[dict[str, Any]], offset: float) -> list[ev.Event]:
    """What a journal tells, as it comes over the wire."""
    wire = (json.loads(json.dumps(line)) for line in journal)
    events = (ev.from_journal(host, line, offset) for line in wire)
    return [event for event in events if event is not None]


def truth(state: RunState) -> dict[str, Any]:
    """All that hosts know of a run: not what a launcher alone can see, such as their silence."""
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
