"""Events survive being stored, and are told in the launcher's time."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest

from launcher.records import events as ev
from launcher.records.reasons import Cold, NotKept, PassedOver, ShareTrouble, StopReason, WaitReason

VALUES: dict[str, Any] = {
    "float": 1.5, "str": "größe \udcff", "int": 7, "bool": True, "str | None": "gpu1",
    "int | None": None, "Mapping[str, str]": {"gpu1": "eth0"},
    "Mapping[str, str] | None": {"message": "x"}, "tuple[int, ...]": (0, 3),
    "tuple[Mapping[str, Any], ...]": ({"pid": 1, "command": "x"},),
    "tuple[str, ...]": ("/dev/shm/x",), "tuple[tuple[str, int], ...]": (("data/", 5),),
    "StopReason": StopReason.OTHER, "PassedOver": PassedOver.ENVIRONMENT,
    "Cold": Cold.THREADS, "Cold | None": Cold.EXITED, "NotKept | None": NotKept.ALONE,
    "WaitReason": WaitReason.BUSY, "float | None": None, "ShareTrouble": ShareTrouble.CONFLICT,
    "Mapping[str, Mapping[str, tuple[str, ...]]]": {"torch": {"2.4.0": ("gpu1",), "": ("gpu2",)}},
}  # fmt: skip


@pytest.mark.parametrize("kind", ev.KINDS.values(), ids=ev.KINDS)
def test_events_survive_being_stored(kind: type[ev.Event]) -> None:
    assert kind.__doc__
    event = kind(**{field.name: VALUES[str(field.type)] for field in fields(kind)})
    record = json.loads(json.dumps(ev.encode(event)))
    assert record["event"] == kind.__name__
    assert ev.decode(record) == event
    assert ev.decode({**record, "of a newer version": 1}) == event


def test_unknown_events_are_passed_over() -> None:
    assert ev.decode({"event": "MoonRose", "time": 1.0}) is None


def test_a_journal_is_told_in_our_time() -> None:
    record = {
        "seq": 3,
        "time": 1000.0,
        "event": "ProcessExited",
        "attempt": 0,
        "key": "rank-0",
        "rank": 0,
        "code": 1,
    }
    event = ev.from_journal("gpu1", record, clock_offset=90.0)
    assert event == ev.ProcessExited(910.0, "gpu1", 0, "rank-0", 0, 1, seq=3)
    seen_later = ev.from_journal("gpu1", {**record, "at": 995.0}, clock_offset=-5.0)
    assert seen_later is not None
    assert seen_later.time == 1000.0
    assert ev.from_journal("gpu1", {**record, "event": "MoonRose"}, 0.0) is None
