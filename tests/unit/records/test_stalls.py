"""Stalls as recorded: which rank is behind, and when the run has stalled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from launcher.cli.render.event_lines import line_of
from launcher.records import events as ev
from launcher.records import stalls as stall
from launcher.records.reasons import Over, StopReason
from launcher.records.state import ProcessState, RunState, fold


def began(host: str, *ranks: tuple[int, float, str], time: float = 100.0) -> ev.StallBegan:
    """Each rank: its number, when its log fell silent, its last line ("" for a log without any)."""
    told = tuple(
        {
            "key": f"rank-{n}",
            "rank": n,
            "pid": n,
            "silent": time - at,
            "cpu": 1.0,
            "bytes": len(last),
            "last": last,
        }
        for n, at, last in ranks
    )
    return ev.StallBegan(time, host, 10.0, told)


@pytest.mark.parametrize(
    ("first", "second", "behind"),
    [
        ([(0, 88.0, "step 2"), (1, 80.0, "step 1")], [(2, 89.0, "x")], 1),
        ([(0, 88.0, "step 2"), (1, 80.0, "step 2")], [(2, 89.0, "step 1")], 2),
        ([(0, 88.0, "step 2"), (1, 80.0, "step 2")], [(2, 79.0, "step 2")], 2),
        ([(0, 88.0, "step 2"), (1, 88.1, "step 2")], [(2, 88.2, "step 2")], None),
        ([(0, 88.0, "step 2"), (1, 70.0, "")], [(2, 70.0, "")], None),
        ([(0, 88.0, ""), (1, 70.0, "")], [(2, 70.0, "")], None),
    ],
    ids=[
        "silent first",
        "another last line",
        "all equal",
        "together",
        "only rank 0 writes",
        "nobody writes",
    ],
)
def test_who_is_behind(first: Any, second: Any, behind: int | None) -> None:
    stalled = {"gpu1": began("gpu1", *first), "gpu2": began("gpu2", *second, time=101.0)}
    assert stall.describe(stalled, 102.0).rank == behind


@pytest.mark.parametrize(
    ("keys", "used", "behind"),
    [
        (("rank-0", "rank-1"), (5.0, 0.02), "gpu2 rank 1"),
        (("rank-0", "rank-1"), (5.0, 2.0), "gpu1 rank 0"),  # by its log
        (("rank-0", "rank-1"), (0.3, 0.02), "gpu1 rank 0"),
        (("worker-0", "worker-1"), (5.0, 0.02), "gpu2 worker-1"),
        (("chief-0", "ps-0"), (5.0, 0.02), "gpu1 chief-0"),  # of another kind
    ],
)
def test_who_has_never_come(keys: Any, used: Any, behind: str) -> None:
    """It waits for something before it joins the others, which have imported a framework."""
    ranks = [began(f"gpu{n + 1}", (n, 80.0 + 2 * n, "here")).ranks[0] for n in range(2)]
    stalled = {
        f"gpu{n + 1}": ev.StallBegan(
            100.0, f"gpu{n + 1}", 10.0, ({**rank, "key": key, "cpu": cpu},)
        )
        for n, (rank, key, cpu) in enumerate(zip(ranks, keys, used, strict=True))
    }
    assert stall.describe(stalled, 102.0).behind.startswith(f"{behind} is behind: ")


def test_a_run_stalls_when_all_that_goes_on_stalls() -> None:
    def state(*events: ev.Event) -> RunState:
        started = [ev.ProcessStarted(0.0, h, 0, "rank-0", 0, 5) for h in ("gpu1", "gpu2")]
        return fold([*started, *events])

    def stalled(*events: ev.Event) -> bool:
        return stall.has_stalled(state(*events), ["gpu1", "gpu2"])

    one, two = began("gpu1", (0, 90.0, "x")), began("gpu2", (1, 90.0, "x"))
    assert not stalled(one)
    assert stalled(one, two)
    assert stalled(one, ev.HostEnded(1.0, "gpu2", 0, 9, 0)), "it waits for a host that has ended"
    assert not stalled(one, two, ev.StallEnded(2.0, "gpu1", 3.0))
    assert not stalled(one, two, ev.ConnectionDropped(2.0, "gpu2", "x")), "who knows what it does"
    assert not stalled(one, two, ev.StopRequested(2.0, StopReason.BY_USER))
    assert not stalled()
    again = replace(two, time=130.0)
    assert not stall.has_stalled(state(one, two), ["gpu1", "gpu2"], [one, two]), "it is known"
    ended = ev.HostEnded(120.0, "gpu1", 0, 9, 0)
    assert not stall.has_stalled(state(one, two, ended), ["gpu1", "gpu2"], [one, two])
    assert stall.has_stalled(state(one, two, again), ["gpu1", "gpu2"], [one, two])


def test_the_only_rank_that_is_left_is_behind() -> None:
    """Ranks that were stopped have not done what they were started for."""
    stalled = {"gpu2": began("gpu2", (1, 88.0, "done"))}
    left = ProcessState("gpu2", "rank-1", 1)
    for other, why in (
        (ProcessState("gpu1", "rank-0", 0, code=0, well=True), "all others have ended with 0"),
        (ProcessState("gpu1", "rank-0", 0, code=0, well=True, stopped=True), ""),
        (ProcessState("gpu1", "rank-0", 0), ""),
        (ProcessState("gpu1", "node-0", None, code=0, well=True), ""),
    ):
        assert stall.describe(stalled, 102.0, [other, left]).why == why


def test_how_a_rank_hangs_whose_script_is_over() -> None:
    for code in Over:
        line = line_of(ev.StacksTaken(1.0, "gpu2", 1, {"rank-1": code}))
        assert line is not None
        assert line.text.startswith("gpu2 rank 1 ")
    assert line_of(ev.StacksTaken(1.0, "gpu2", 1)) is None
