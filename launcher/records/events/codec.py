"""Writes events as JSON, and reads them again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from ...spec.errors import UnreadableRecord
from ...spec.typed_json import Mismatch, from_json
from .. import compat, formats
from . import files, hosts, processes, progress, queue, run, software  # noqa: F401 - Event knows them then
from .event import Event
from .hosts import RecordPassedOver

KINDS: Mapping[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


def encode(event: Event) -> dict[str, Any]:
    """Return an event as JSON values, with its kind under ``event``."""
    values = {"event": type(event).__name__, **asdict(event)}
    if event.seq < 0:
        del values["seq"]
    return values


def decode(record: object) -> Event | None:
    """Return the event that a record describes; None for a kind that this version does not know.

    Unknown fields are ignored. Raises Mismatch.
    """
    if not isinstance(record, Mapping) or not isinstance(record.get("event"), str):
        raise Mismatch("not an event")
    record = compat.event(record)
    kind = KINDS.get(record["event"])
    return None if kind is None else from_json(kind, record)


def decode_lines(
    lines: bytes, file: object = "events.jsonl", before: Callable[[], int] = lambda: 0
) -> list[Event]:
    """Return the events of whole lines of JSON.

    A damaged line costs that line alone: it becomes a RecordPassedOver of no host, which names the
    file, the line and the field. ``before()`` is how many lines of the file are in front of these.
    """
    found: list[Event | None] = []
    last = 0.0
    for number, line in enumerate(lines.split(b"\n")[:-1], 1):
        try:
            event = decode(formats.parse(line, ""))
        except (Mismatch, UnreadableRecord) as error:
            problem = error.message if isinstance(error, UnreadableRecord) else str(error)
            place = f"{file}:{before() + number} is damaged: "
            event = RecordPassedOver(last, "", place + problem.removeprefix(" is damaged: "))
        found.append(event)
        last = last if event is None else event.time
    return [event for event in found if event is not None]


def damage(events: Iterable[Event]) -> str:
    """Return which lines of a record here are damaged, in words; "" where none is."""
    lines = [e.problem for e in events if isinstance(e, RecordPassedOver) and not e.host]
    more = f"; and {len(lines) - 1} more" if lines[1:] else ""
    return f"{lines[0]}{more}" if lines else ""
