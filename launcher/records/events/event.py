"""The base of all events of a run."""

from __future__ import annotations

from dataclasses import field

from ...spec.frozen import frozen


@frozen
class Event:
    """Base of all events. ``seq`` is the number in its host's journal, -1 for an event of this
    machine."""

    time: float
    seq: int = field(default=-1, kw_only=True)
