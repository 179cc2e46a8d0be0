"""What launcher show tells of the events of a run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import click
import pytest

from launcher.cli.commands.show import _so_far, _timeline
from launcher.records import events as ev
from launcher.records.reasons import EndReason, StopReason
from launcher.records.state import RunState


def test_hosts_that_were_not_needed_leave_room_for_what_happened() -> None:
    """All of them stay where all events are asked for."""
    others = tuple(f"gpu{number}" for number in range(2, 64))
    ends = [
        event
        for host in others
        for event in (
            ev.StopRequested(2.0, StopReason.NOT_NEEDED, host),
            ev.HostEnded(2.0, host, 0, 9, 0),
        )
    ]
    stopped = ev.StopRequested(9.0, StopReason.BY_USER, "gpu1")
    events = [ev.StageStarted(1.0, "wait"), *ends, ev.HostsLetGo(3.0, others), stopped]
    short = _timeline(events, 20)
    assert "not-needed" not in short
    for kind in ("StageStarted", "HostsLetGo", "by-user"):
        assert kind in short
    assert _timeline(events, 1000).count("not-needed") == len(others)


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        (
            "succeeded",
            EndReason.ALL_EXITED_0,
            "succeeded  calm-owl\nits receipt is not written yet: launcher attach calm-owl",
        ),
        (
            "failed",
            EndReason.LAUNCHER_DIED,
            "failed (launcher-died)  calm-owl\nerror: its launcher died before it got to the start",
        ),
    ],
)
def test_a_run_that_ended_without_a_receipt(status: str, reason: EndReason, text: str) -> None:
    """The disk here was full, or this machine went down a moment too early."""
    state = RunState(status=status, ended_for=reason)
    run = cast(Any, SimpleNamespace(name="calm-owl", started=1.0))
    assert click.unstyle(_so_far(run, state, [])).startswith(text)
