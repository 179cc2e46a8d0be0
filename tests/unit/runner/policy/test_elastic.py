"""Elastic runs: when a group continues, and when too few hosts are left."""

from __future__ import annotations

import pytest

from launcher.jobs import job_file as jobs
from launcher.records import events as ev
from launcher.records.reasons import StopReason
from launcher.records.state import fold
from launcher.runner.policy import elastic, outcome
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Layout, Node

LAYOUT = Layout("r", tuple(Node(Host(f"gpu{n}"), n, 1, n) for n in range(3)))


def started(rank: int, time: float) -> ev.ProcessStarted:
    return ev.ProcessStarted(time, f"gpu{rank}", 0, f"rank-{rank}", rank, 7)


def exited(time: float, host: int, code: int, node: bool = False, **more: bool) -> ev.ProcessExited:
    key = f"node-{host}" if node else f"rank-{host}"
    return ev.ProcessExited(time, f"gpu{host}", 0, key, None if node else host, code, **more)


def lost(host: int) -> ev.NodeLost:
    return ev.NodeLost(9.0, f"gpu{host}", "host-unreachable")


@pytest.mark.parametrize(
    ("events", "least", "few"),
    [
        ([], 1, False),
        ([lost(2)], 2, False),
        ([lost(2)], 3, True),
        ([lost(0)], 1, True),
        ([exited(1.0, 2, 1, node=True, tolerated=True), lost(1)], 2, True),
        ([exited(1.0, 2, 0, node=True), lost(1)], 2, False),
        ([exited(1.0, 1, 1, tolerated=True)], 3, False),
    ],
)
def test_whether_a_group_goes_on(events: list[ev.Event], least: int, few: bool) -> None:
    """A rank that failed is started again; a host is gone with its torchrun."""
    assert elastic.too_few(fold(events), LAYOUT, least) is few


def test_it_is_over_when_only_silent_hosts_are_missing() -> None:
    done = [exited(5.0, 0, 0, node=True), ev.HostEnded(5.0, "gpu0", 0, 9, 0)]
    done += [ev.HostEnded(5.0, "gpu1", 0, 9, 0)]
    assert not elastic.is_over(fold(done), LAYOUT, 1)
    silent = fold([*done, ev.ConnectionDropped(6.0, "gpu2", "x")])
    assert elastic.is_over(silent, LAYOUT, 1)
    assert elastic.finished_on(silent, LAYOUT) is None, "it was not given up yet"
    assert elastic.finished_on(fold([lost(2)], silent), LAYOUT) == 2
    assert elastic.finished_on(fold([lost(2)]), LAYOUT) is None


ENDS = [
    exited(2.0, 1, 3, tolerated=True),
    started(1, 5.0),
    exited(7.0, 2, -9, tolerated=True),
    exited(8.0, 1, 1, tolerated=True),
]


def test_one_that_never_had_hosts_has_no_group() -> None:
    """Its GPUs were in use, and it was not to wait."""
    why = outcome.stop_reason(fold([]), Layout("run", ()), elastic_from=1)
    assert why is StopReason.LAUNCHER_FAILED


def test_the_first_rank_that_failed_since_the_group_was_formed_is_named() -> None:
    """torchrun itself says 1, whatever happened; a rank that was started again is not why."""
    state = fold(ENDS)
    assert state.failure is None
    state = fold([exited(9.0, 0, 1, node=True)], state)
    assert state.failure is not None
    assert (state.failure.host, state.failure.code) == ("gpu2", -9)


def test_too_few_hosts_are_the_failure_of_the_rank_that_failed() -> None:
    state = fold([*ENDS, ev.StopRequested(9.0, StopReason.TOO_FEW_HOSTS)])
    assert state.failure is not None
    assert state.failure.code == -9


@pytest.mark.parametrize(("text", "least", "most"), [("1:2", 1, 2), ("2:2", 2, 2), ("3", None, 3)])
def test_how_many_hosts(text: str, least: int | None, most: int) -> None:
    values = jobs.load(f"run: a.py\nnum_nodes: {text}\n", "job.yaml")
    for layers in ({"file": values}, {"flag": {"run": ("a.py",), "num_nodes": text}}):
        job = jobs.make(layers, {})
        assert (job.elastic, job.num_nodes) == (least, most)


@pytest.mark.parametrize("text", ["", "0", "0:2", "2:1", "1:", ":2", "1:2:3", "x", "-1", "1.5"])
def test_what_is_no_number_of_hosts(text: str) -> None:
    with pytest.raises(InputError, match="--nodes: not a number of hosts"):
        jobs.make({"flag": {"run": ("a.py",), "num_nodes": text}}, {})
