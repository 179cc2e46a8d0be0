"""Whether and why a run starts again."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.records import events as ev
from launcher.records.reasons import StopReason
from launcher.records.state import fold
from launcher.runner.policy.restart import PORT_TRIES, another_try, may_follow, was_preempted
from launcher.spec.model import Inventory, Job, Request

LOST = ev.NodeLost(3.0, "gpu2", "host-unreachable")
FAILED = ev.ProcessExited(2.0, "gpu1", 0, "rank-0", 0, 1)
AGAIN = ev.RunRestarted(5.0, 1, "host-unreachable")


@pytest.mark.parametrize(
    ("events", "restarts", "why"),
    [
        ([LOST], 1, "host-unreachable"),
        ([FAILED, LOST], 1, "host-unreachable"),
        ([LOST], 0, None),
        ([AGAIN, LOST], 1, None),
        ([AGAIN, LOST], 2, "host-unreachable"),
        ([LOST, ev.OrphanTimeoutExpired(4.0, "gpu1", 9.0)], 1, None),
        ([FAILED], 1, "exit-1"),
        ([], 1, None),
        ([ev.RunRestarted(1.0, 1, "gpu-busy"), LOST], 1, "host-unreachable"),
    ],
)
def test_why_it_starts_again(events: list[ev.Event], restarts: int, why: str | None) -> None:
    words = b"Address already in use: 29500"  # of a rank whose peer has died: no reason by itself
    ports = {"gpu1": [29500]} if LOST in events else {}
    found = another_try(fold(events), events, words, ports, restarts)
    assert (found and str(found)) == why


@pytest.mark.parametrize(
    ("host", "words", "again"),
    [
        ("gpu1", "[::]:29500 Address already in use", True),
        ("gpu1", "the server socket has failed to listen. port: 29501, EADDRINUSE", True),
        ("gpu1", "port: 129500, EADDRINUSE", False),
        ("gpu2", "No address added out of total 1 resolved for '0.0.0.0:29601'", True),
        ("gpu2", "No address added out of total 1 resolved for '0.0.0.0:29500'", False),
        ("gpu1", "Check failed: my_node_.port != -1 (-1 vs. -1) : bind failed", True),
        ("gpu2", "Check failed: my_node_.port != -1 (-1 vs. -1) : bind failed", False),
        ("gpu2", "cannot listen on 29601", False),
    ],
)
def test_a_port_of_the_run_that_somebody_else_has(host: str, words: str, again: bool) -> None:
    """Of that host, in words that mean nothing else; and not for ever."""
    events = [ev.ProcessExited(2.0, host, 0, "rank-0", 0, 1)]
    ports = {"gpu1": [29500, 29501], "gpu2": [29601]}
    tried = [*events, *(ev.PortReplaced(1.0, "gpu1", 29400) for _ in range(PORT_TRIES))]
    found = [another_try(fold(events), e, words.encode(), ports, 0) for e in (events, tried)]
    assert [found[0] and str(found[0]), found[1]] == ["port-taken" if again else None, None]


@pytest.mark.parametrize(
    ("more", "events", "follows"),
    [
        ({}, [], False),
        ({"max_restarts": 1}, [], True),
        ({"max_restarts": 1}, [AGAIN], False),
        ({"max_restarts": 1}, [ev.RunRestarted(1.0, 1, "gpu-busy")], True),
        ({"max_restarts": 2}, [AGAIN], True),
        ({"preemptible": True}, [AGAIN, AGAIN], True),
    ],
)
def test_whether_another_attempt_may_follow(
    more: dict[str, Any], events: list[ev.Event], follows: bool
) -> None:
    request = Request(Job(("train.py",)), Inventory(()), (), **more)
    assert may_follow(request, events) is follows


RAN = ev.ProcessStarted(1.0, "gpu1", 0, "rank-0", 0, 7)
GIVES_WAY = ev.StopRequested(2.0, StopReason.PREEMPTED, "gpu1", 1, 0)
DONE = ev.ProcessExited(3.0, "gpu1", 0, "rank-0", 0, 0)
SAVED = ev.ProcessExited(3.0, "gpu1", 0, "rank-0", 0, 0, stopped=True)
ENDED = ev.HostEnded(4.0, "gpu1", 0, 0, 0, attempt=0)


@pytest.mark.parametrize(
    ("events", "waits"),
    [
        ([RAN, GIVES_WAY, SAVED, ENDED], True),
        ([RAN, GIVES_WAY, DONE, ENDED], False),
        ([RAN, GIVES_WAY], True),  # its host lost power while it saved
        ([RAN], False),
        ([RAN, GIVES_WAY, LOST], False),
        ([RAN, FAILED, GIVES_WAY], False),
        ([RAN, GIVES_WAY, ev.StopRequested(9.0, StopReason.BY_USER)], False),
    ],
)
def test_a_run_that_gave_way_before_it_was_done_waits_again(
    events: list[ev.Event], waits: bool
) -> None:
    assert was_preempted(fold(events)) is waits
