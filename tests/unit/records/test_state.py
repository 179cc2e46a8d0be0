"""The state that follows from events, however they are cut, stored and ordered."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.records import events as ev
from launcher.records import state as status
from launcher.records.reasons import StopReason, WaitReason
from launcher.records.state import ENDED, TRANSITIONS, RunState, fold, step

FEW = settings(max_examples=40)

HOSTS = st.sampled_from(["gpu1", "gpu2"])
KEYS = st.sampled_from(["rank-0", "rank-1", "setup-0"])
TIMES = st.integers(0, 50).map(float)
STARTED = st.builds(
    ev.ProcessStarted, TIMES, HOSTS, st.just(0), KEYS, st.none(), st.integers(1, 99)
)
EXITED = st.builds(
    ev.ProcessExited,
    TIMES,
    HOSTS,
    st.just(0),
    KEYS,
    st.none(),
    st.sampled_from([0, 1, -9]),
    stopped=st.booleans(),
)
ENDINGS = st.builds(ev.RunEnded, TIMES, st.sampled_from(sorted(ENDED)), st.just("over"))
OTHERS = st.one_of(
    st.builds(ev.StageStarted, TIMES, st.just("run")),
    st.builds(ev.StopRequested, TIMES, st.sampled_from(StopReason), st.none() | HOSTS),
    st.builds(ev.RunRestarted, TIMES, st.just(1), st.just("exit-1")),
    st.builds(ev.GpusUsed, TIMES, HOSTS, st.just((0, 1))),
    st.builds(ev.HostEnded, TIMES, HOSTS, st.just(0), st.just(9), st.just(0)),
)
EVENTS = st.lists(STARTED | EXITED | OTHERS | ENDINGS, max_size=12)


def exited(host: str, rank: int, code: int, time: float = 0.0, **more: Any) -> ev.ProcessExited:
    return ev.ProcessExited(time, host, 0, f"rank-{rank}", rank, code, **more)


def started(host: str, rank: int, time: float = 0.0) -> ev.ProcessStarted:
    return ev.ProcessStarted(time, host, 0, f"rank-{rank}", rank, 100 + rank)


def test_transitions_lead_to_known_places_only() -> None:
    assert set().union(*TRANSITIONS.values()) <= set(TRANSITIONS)
    assert {"succeeded", "failed", "stopped", "lost"} == ENDED


@pytest.mark.parametrize(("old", "new"), list(itertools.product(TRANSITIONS, sorted(ENDED))))
def test_endings_follow_the_table(old: str, new: str) -> None:
    state = step(RunState(status=old, ended_for="before"), ev.RunEnded(1.0, new, "after"))
    expected = (new, "after") if new in TRANSITIONS[old] else (old, "before")
    assert (state.status, state.ended_for) == expected


@FEW
@given(EVENTS, st.integers(0, 12))
def test_folding_at_once_is_folding_stepwise(events: list[ev.Event], cut: int) -> None:
    assert fold(events) == fold(events[cut:], fold(events[:cut]))


@FEW
@given(EVENTS)
def test_every_change_is_one_of_the_table(events: list[ev.Event]) -> None:
    state = RunState()
    for event in events:
        after = step(state, event)
        assert after.status == state.status or after.status in TRANSITIONS[state.status]
        if state.status in ENDED:
            assert (after.status, after.reason) == (state.status, state.reason)
        state = after


@pytest.mark.parametrize("order", [1, -1])
def test_the_wish_of_the_user_is_why_whatever_the_clocks_of_hosts_say(order: int) -> None:
    """A host that heard it from another tells so, maybe as of a moment before."""
    stops = [
        ev.StopRequested(4.0, StopReason.BY_USER),
        ev.StopRequested(3.9, StopReason.PROCESS_FAILED, host="gpu2", origin="gpu1"),
        ev.StopRequested(4.1, StopReason.BY_USER, host="gpu1", asked=True),
    ]
    state = fold([started("gpu1", 0), *stops[::order]])
    assert (state.status, state.reason) == ("stopping", StopReason.BY_USER)


def test_an_ended_run_keeps_what_it_ended_with() -> None:
    ended = fold([started("gpu1", 0), exited("gpu1", 0, 7, 3.0), ev.RunEnded(4.0, "failed", "x")])
    after = fold([ev.RunRestarted(5.0, 1, "exit-1"), exited("gpu2", 1, 1, 2.0)], ended)
    assert after.failure == ended.failure
    assert after.processes[("gpu1", "rank-0")].code == 7


def test_a_run_from_its_start_to_its_end() -> None:
    state = fold([ev.StageStarted(0.0, "start")])
    assert (state.status, state.stage) == ("preparing", "start")
    state = fold([ev.ProcessStarted(0.0, "gpu1", 0, "setup-0", None, 5)], state)
    assert state.status == "preparing", "setup is not the run yet"
    state = fold([started("gpu1", 0), started("gpu2", 1)], state)
    assert (state.status, state.alive("gpu2")) == ("running", 1)
    state = fold([exited("gpu2", 1, 0), ev.HostEnded(1.0, "gpu2", 0, 9, 0)], state)
    assert (state.alive("gpu2"), state.ended_hosts) == (0, {"gpu2"})
    assert state.processes[("gpu2", "rank-1")].pid == 101
    assert fold([ev.RunEnded(2.0, "succeeded", "")], state).status == "succeeded"


def test_a_stop_of_one_host_is_not_a_stop_of_the_run() -> None:
    running = fold([started("gpu1", 0)])
    why = StopReason.PROCESS_FAILED
    assert step(running, ev.StopRequested(1.0, why, host="gpu1")).status == "running"
    assert step(running, ev.StopRequested(1.0, why)).status == "stopping"
    assert step(running, ev.StopRequested(1.0, why, host="gpu1", asked=True)).status == "stopping"


def test_a_restart_begins_anew() -> None:
    state = fold([started("gpu1", 0), exited("gpu1", 0, 1), ev.HostEnded(1.0, "gpu1", 0, 9, 0)])
    state = step(state, ev.RunRestarted(2.0, 1, "exit-1"))
    assert state == RunState(status="preparing", attempt=1)


def test_another_port_changes_nothing() -> None:
    """Nothing of the run itself had been started; the setup of a host has happened."""
    setup = ev.ProcessStarted(0.0, "gpu1", 0, "setup-0", None, 5)
    state = fold([setup, ev.ProcessExited(1.0, "gpu1", 0, "setup-0", None, 0)])
    assert step(state, ev.PortReplaced(2.0, "gpu1", 29500)) == state


FAILURES = [exited("gpu1", 0, 1, 5.0), exited("gpu2", 1, -9, 2.0), exited("gpu2", 2, 7, 9.0)]


@pytest.mark.parametrize("order", list(itertools.permutations(FAILURES)))
def test_the_first_failure_is_the_earliest(order: tuple[ev.ProcessExited, ...]) -> None:
    failure = fold(order).failure
    assert failure is not None
    assert (failure.host, failure.rank, failure.time) == ("gpu2", 1, 2.0)


def test_of_two_failures_at_once_always_the_same_one_is_the_first() -> None:
    one, two = exited("gpu1", 3, 1, 5.0), exited("gpu2", 1, 1, 5.0)
    assert fold([one, two]).failure == fold([two, one]).failure


def test_what_we_ended_and_what_succeeded_is_no_failure() -> None:
    assert fold([exited("gpu1", 0, 0), exited("gpu1", 1, -15, stopped=True)]).failure is None


def test_skewed_clocks_do_not_change_who_failed_first() -> None:
    record = {"event": "ProcessExited", "attempt": 0, "key": "rank-0", "rank": 0, "code": 1}
    fast = ev.from_journal("fast", {**record, "time": 1064.0}, clock_offset=60.0)
    slow = ev.from_journal("slow", {**record, "time": 945.0}, clock_offset=-60.0)
    assert fast is not None
    assert slow is not None
    failure = fold([slow, fast]).failure
    assert failure is not None
    assert failure.host == "fast"


def test_a_run_that_its_host_starts_needs_no_launcher() -> None:
    waits = [ev.WaitsOnHost(1.0, "gpu1"), ev.RunWaits(2.0, 1, 1, WaitReason.BUSY)]
    state = fold(waits)
    assert (state.status, state.waits_on, state.is_on_its_own) == ("waiting", "gpu1", True)
    state = fold([ev.BegunThere(3.0, "gpu1", 0, 2.0, (0, 1), (20_000,))], state)
    assert (state.status, state.waits, state.is_on_its_own) == ("preparing", None, True)
    assert fold([ev.AllStarted(4.0, 0)], state).waits_on == ""
    begun = ev.BegunThere(9.0, "gpu1", 0, 2.0, (0, 1), (20_000,))
    assert fold([begun]) == RunState(begun_on={"gpu1": begun}), "nobody let it, as far as is known"
    assert fold([ev.RunRestarted(4.0, 1, "gpu-busy")], state).begun_there is None


def test_a_run_that_nobody_follows_is_over_unless_hosts_have_begun() -> None:
    connected = [ev.StageStarted(1.0, "connect"), ev.StageStarted(2.0, "sync")]
    for needs in ([], connected, [*connected, ev.RunWaits(3.0, 1, 0, WaitReason.BUSY)]):
        left = status.without_launcher(fold(needs))
        assert (left.status, left.reason) == ("failed", "launcher-died")
    setup = fold([*connected, ev.StageStarted(3.0, "setup")])
    waits = fold([*connected, ev.WaitsOnHost(3.0, "gpu1")])
    for may_go_on in (setup, waits):
        assert status.without_launcher(may_go_on) == may_go_on


def test_a_run_that_may_choose_goes_on_without_the_others() -> None:
    three = ("gpu1", "gpu2", "gpu3")
    state = fold([ev.LeftToHosts(1.0, three, 1), ev.WaitsOnHosts(2.0, "gpu1", three, wanted=1)])
    assert (state.left_to, state.wanted, state.is_on_its_own) == (three, 1, True)
    gone = ev.StopRequested(3.0, StopReason.BY_USER, "gpu2")
    assert fold([gone], state).stop is not None, "its user has stopped it there"
    begun = ev.BegunThere(4.0, "gpu3", 0, 2.0, (0,), (20_000,), ("gpu3",))
    state = fold([begun], state)
    assert (state.chosen, state.status, state.begun_there) == (("gpu3",), "preparing", begun)
    not_needed = ev.StopRequested(5.0, StopReason.NOT_NEEDED, "gpu1")
    assert fold([not_needed, ev.HostEnded(6.0, "gpu1", 0, 0, 0)], state).stop is None
    assert fold([replace(gone, host="gpu3")], state).stop is not None, "it runs there"
    late = [ev.OrphanTimeoutExpired(7.0, "gpu2", 60.0), replace(gone, why=StopReason.WAIT_OVER)]
    left = fold(late, state)
    assert (left.stop, left.expired) == (None, {}), "nobody has told gpu2"
    parted = replace(gone, host="gpu1", why=StopReason.HOSTS_PARTED)
    assert fold([parted], state).stop is not None, (
        "the leader could not tell those that it has chosen"
    )
    again = fold([ev.AllStarted(8.0, 0), ev.RunRestarted(9.0, 1, "exit-1")], state)
    assert fold([replace(gone, attempt=1)], again).stop is not None, (
        "in another attempt all are needed"
    )


def test_hosts_take_a_run_back_into_the_queue_whichever_is_heard_first() -> None:
    both = ("gpu1", "gpu2")
    ran = [
        ev.LeftToHosts(1.0, both), ev.AllStarted(2.0, 0), ev.ProcessStarted(2.0, "gpu1", 0, "rank-0", 0, 7),
    ]  # fmt: skip
    stops = [ev.StopRequested(3.0, StopReason.PREEMPTED, host, attempt=0) for host in both]
    back = [ev.WaitsAgain(4.0, host, 1, both) for host in both]
    state = fold([*ran, *stops, *back])
    assert (state.attempt, state.returned, state.left_to) == (1, 1, both)
    assert state.status == "waiting"
    assert (state.all_started, state.stop, dict(state.processes)) == (False, None, {})
    assert not state.needs_its_launcher
    assert fold([*ran, back[1], stops[0], back[0], stops[1]]) == state
    late = [
        ev.AllStarted(5.0, 0),
        ev.BegunThere(2.0, "gpu1", 0, 1.0, (0,), (20_000,), both),
        ev.HostEnded(3.0, "gpu2", 0, 0, 0, attempt=0),
    ]
    assert fold(late, state) == state, "of the attempt before"
    begun = ev.BegunThere(6.0, "gpu1", 1, 2.0, (0,), (20_000,), both)
    assert fold([begun, back[1]], state).begun_on == {"gpu1": begun}
    ended = fold([ev.RunEnded(9.0, "stopped", "by-user")], state)
    assert fold([ev.WaitsAgain(10.0, "gpu1", 2, both)], ended) == ended


def test_setup_is_known_by_its_key() -> None:
    assert status.is_setup("setup-0")
    assert not status.is_setup("rank-0")


def test_what_starts_ranks_is_not_counted_beside_them() -> None:
    """A host with two ranks would show three processes, that of torchrun with them."""
    node = ev.ProcessStarted(1.0, "gpu1", 0, "node-0", None, 5)
    ranks = [ev.ProcessStarted(2.0, "gpu1", 0, f"rank-{n}", n, 6 + n) for n in range(2)]
    assert [one.key for one in fold([node]).counted_on("gpu1")] == ["node-0"]
    assert [one.key for one in fold([node, *ranks]).counted_on("gpu1")] == ["rank-0", "rank-1"]
    assert fold([node, *ranks]).counted_on("gpu2") == []
