"""Where the time of a run went, from its events."""

from __future__ import annotations

import pytest

from launcher.records import events as ev
from launcher.records import profile
from launcher.records.profile import Span, Step
from launcher.records.reasons import Cold


def _told(spans: tuple[Span, ...]) -> list[tuple[str, str, float, float]]:
    return [(one.host, str(one.step), round(one.start, 3), round(one.end, 3)) for one in spans]


def _started(time: float, host: str, key: str, attempt: int = 0) -> ev.Event:
    return ev.ProcessStarted(time, host, attempt, key, None, 7)


def _exited(time: float, host: str, key: str, attempt: int = 0) -> ev.Event:
    return ev.ProcessExited(time, host, attempt, key, None, 0)


RUN = [
    ev.StageStarted(100.0, "connect"),
    ev.HostConnected(100.2, "a", 0.2, "3.11", 0.0),
    ev.HostConnected(100.5, "b", 0.5, "3.11", 0.0),
    ev.StageStarted(100.5, "sync"),
    ev.CodeSynced(101.0, "a", "v", 3, 10, 10, 0.5),
    ev.CodeSynced(100.9, "b", "v", 3, 10, 0, 0.1),
    ev.StageStarted(101.0, "setup"),
    _started(101.1, "a", "setup-0"),
    _exited(102.1, "a", "setup-0"),
    ev.StageStarted(102.2, "run"),
    _started(102.3, "a", "rank-0"),
    _started(102.4, "a", "rank-1"),
    _exited(105.0, "a", "rank-1"),
    _exited(106.0, "a", "rank-0"),
    ev.HostEnded(106.5, "a", 0, 10, 0),
    ev.StageStarted(106.6, "collect"),
    ev.RunEnded(107.0, "succeeded", ""),
]


def test_stages_follow_each_other() -> None:
    assert _told(profile.stages(RUN)) == [
        ("", "connect", 0.0, 0.5),
        ("", "sync", 0.5, 1.0),
        ("", "setup", 1.0, 2.2),
        ("", "run", 2.2, 6.6),
        ("", "collect", 6.6, 7.0),
    ]


def test_what_each_host_did() -> None:
    """Ranks of a host are one span, from the first start to the last exit; then it ends."""
    assert _told(profile.steps(RUN)) == [
        ("a", "connect", 0.0, 0.2),
        ("a", "code", 0.5, 1.0),
        ("a", "setup", 1.1, 2.1),
        ("a", "ranks", 2.3, 6.0),
        ("a", "end", 6.0, 6.5),
        ("b", "connect", 0.0, 0.5),
        ("b", "code", 0.8, 0.9),
    ]


def test_the_slowest_host_of_each_step() -> None:
    connect, code, *_ = profile.step_times(profile.steps(RUN))
    assert (connect.hosts, connect.host) == (2, "b")
    assert (connect.median, connect.longest) == pytest.approx((0.35, 0.5))
    assert (code.step, code.host) == (Step.CODE, "a")


def test_attempts_are_spans_of_their_own_and_add_up() -> None:
    again = [
        *RUN[:-2],
        ev.StageStarted(106.6, "restart"),
        _started(107.0, "a", "rank-0", 1),
        _exited(109.0, "a", "rank-0", 1),
        ev.HostEnded(109.2, "a", 0, 10, 0),
    ]
    ranks = [one for one in profile.steps(again) if one.step == Step.RANKS]
    assert _told(tuple(ranks)) == [("a", "ranks", 2.3, 6.0), ("a", "ranks", 7.0, 9.0)]
    (found,) = (one for one in profile.step_times(ranks) if one.step == Step.RANKS)
    assert found.longest == pytest.approx(5.7)


def test_what_still_runs_lasts_until_the_last_event() -> None:
    so_far = [*RUN[:12], ev.StallEnded(104.0, "a", 1.0)]
    assert _told(profile.steps(so_far))[3:4] == [("a", "ranks", 2.3, 4.0)]


def test_a_clock_that_runs_ahead_makes_no_negative_time() -> None:
    ahead = [
        ev.StageStarted(100.0, "connect"),
        ev.HostConnected(100.1, "a", 0.3, "3.11", 0.0),
        _exited(99.9, "a", "rank-0"),
    ]
    assert _told(profile.steps(ahead)) == [("a", "connect", 0.0, 0.1), ("a", "ranks", 0.0, 0.0)]


def test_an_import_that_failed_is_no_step_of_its_own_seconds() -> None:
    broken = [ev.StageStarted(1.0, "run"), ev.Preloaded(3.0, "a", 0.0, Cold.IMPORT_FAILED)]
    assert [one.seconds for one in profile.steps(broken)] == [0.0]


def test_a_run_without_events() -> None:
    assert profile.stages([]) == profile.steps([]) == ()
    assert profile.step_times(()) == ()
