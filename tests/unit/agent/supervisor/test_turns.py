"""Whose turn it is: as a table, and as properties of storms of runs that are played through."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.agent.supervisor import turns
from launcher.agent.supervisor.turns import Begin, Host, Ticket, Use, Wait, decide

A, AB = ("a",), ("a", "b")


def idle(*names: str, gpus: int = 4) -> dict[str, Host]:
    return {name: Host(range(gpus)) for name in names}


def used(count: int, name: str = "old", seconds: float | None = None, gpus: int = 4) -> Host:
    return Host(range(gpus), [Use(name, range(count), seconds)])


CASES: dict[str, tuple[list[Ticket], dict[str, Host], list[Any]]] = {
    "an idle host": ([Ticket("x", 1, [2], A)], idle("a"), [Begin("x", {"a": [0, 1]})]),
    "two beside each other": (
        [Ticket("x", 1, [2], A), Ticket("y", 2, [2], A)],
        idle("a"),
        [Begin("x", {"a": [0, 1]}), Begin("y", {"a": [2, 3]})],
    ),
    "the smallest host that suffices": (
        [Ticket("x", 1, [1], AB)],
        {"a": Host(range(4)), "b": Host(range(2))},
        [Begin("x", {"b": [0]})],
    ),
    "shares of different sizes": (
        [Ticket("x", 1, [1, 4], AB)],
        {"a": Host(range(4)), "b": used(3)},
        [Begin("x", {"a": [0, 1, 2, 3], "b": [3]})],
    ),
    "busy, until a known time": (
        [Ticket("x", 1, [2], A)],
        {"a": used(3, seconds=60)},
        [Wait("x", 1, turns.BUSY, runs=["old"], seconds=60)],
    ),
    "busy, nobody knows until when": (
        [Ticket("x", 1, [2], A)],
        {"a": used(3)},
        [Wait("x", 1, turns.BUSY, runs=["old"])],
    ),
    "a use past its time has no known end": (
        [Ticket("x", 1, [2], A)],
        {"a": used(3, seconds=-5)},
        [Wait("x", 1, turns.BUSY, runs=["old"])],
    ),
    "a process that belongs to no run": (
        [Ticket("x", 1, [4], A)],
        {"a": used(1, name="")},
        [Wait("x", 1, turns.BUSY, runs=[""])],
    ),
    "a gang gets all or nothing": (
        [Ticket("x", 1, [4, 4], AB)],
        {"a": Host(range(4)), "b": used(1, seconds=9)},
        [Wait("x", 1, turns.BUSY, runs=["old"], seconds=9)],
    ),
    "a later run does not take what an earlier one waits for": (
        [Ticket("big", 1, [4], A), Ticket("small", 2, [1], A)],
        {"a": used(1)},
        [
            Wait("big", 1, turns.BUSY, runs=["old"]),
            Wait("small", 2, turns.BEHIND, runs=["big"]),
        ],
    ),
    "unless it ends before": (
        [Ticket("big", 1, [4], A), Ticket("small", 2, [1], A, seconds=60)],
        {"a": used(1, seconds=60)},
        [Wait("big", 1, turns.BUSY, runs=["old"], seconds=60), Begin("small", {"a": [1]})],
    ),
    "which a second too long does not": (
        [Ticket("big", 1, [4], A, seconds=30), Ticket("small", 2, [1], A, seconds=61)],
        {"a": used(1, seconds=60)},
        [
            Wait("big", 1, turns.BUSY, runs=["old"], seconds=60),
            Wait("small", 2, turns.BEHIND, runs=["big"], seconds=90),
        ],
    ),
    "or uses another host than the one planned for it": (
        [Ticket("big", 1, [4], AB), Ticket("small", 2, [1], AB)],
        {"a": used(3, seconds=60), "b": used(3, seconds=90)},
        [Wait("big", 1, turns.BUSY, runs=["old"], seconds=60), Begin("small", {"b": [3]})],
    ),
    "a higher priority goes first": (
        [Ticket("x", 1, [4], A), Ticket("y", 2, [4], A, priority=1)],
        idle("a"),
        [Begin("y", {"a": [0, 1, 2, 3]}), Wait("x", 1, turns.BUSY, runs=["y"])],
    ),
    "equal numbers are ordered by name": (
        [Ticket("y", 1, [4], A, seconds=5), Ticket("x", 1, [4], A, seconds=7)],
        idle("a"),
        [Begin("x", {"a": [0, 1, 2, 3]}), Wait("y", 1, turns.BUSY, runs=["x"], seconds=7)],
    ),
    "a run that can never fit holds nobody back": (
        [Ticket("huge", 1, [5], A), Ticket("x", 2, [4], A)],
        idle("a"),
        [Wait("huge", 1, turns.TOO_LARGE), Begin("x", {"a": [0, 1, 2, 3]})],
    ),
    "nor does one whose host is not in sight": (
        [Ticket("gang", 1, [4, 4], ("a", "gone")), Ticket("x", 2, [4], A)],
        idle("a"),
        [
            Wait("gang", 1, turns.HOSTS_MISSING, hosts=["gone"]),
            Begin("x", {"a": [0, 1, 2, 3]}),
        ],
    ),
    "nor one that asks for no node": (
        [Ticket("none", 1, [], A), Ticket("x", 2, [4], A)],
        idle("a"),
        [Wait("none", 1, turns.TOO_LARGE), Begin("x", {"a": [0, 1, 2, 3]})],
    ),
    "the very GPUs that it wants": (
        [Ticket("x", 1, [2], A, only={"a": [2, 3]}), Ticket("y", 2, [2], A)],
        idle("a"),
        [Begin("x", {"a": [2, 3]}), Begin("y", {"a": [0, 1]})],
    ),
    "no others would do, and what is free of them is kept": (
        [Ticket("x", 1, [2], A, only={"a": [0, 1]}), Ticket("y", 2, [2], A)],
        {"a": used(1)},
        [Wait("x", 1, turns.BUSY, runs=["old"]), Begin("y", {"a": [2, 3]})],
    ),
    "who uses others does not count": (
        [Ticket("x", 1, [1], A, only={"a": [3]})],
        {"a": Host(range(4), [Use("old", [0]), Use("mine", [3])])},
        [Wait("x", 1, turns.BUSY, runs=["mine"])],
    ),
    "nor does a GPU that is not there": (
        [Ticket("x", 1, [1], A, only={"a": [7]}), Ticket("y", 2, [4], A)],
        idle("a"),
        [Wait("x", 1, turns.TOO_LARGE), Begin("y", {"a": [0, 1, 2, 3]})],
    ),
    "on all of its hosts": (
        [Ticket("x", 1, [1, 2], ("a", "gone"), only={"a": [3]})],
        idle("a"),
        [Wait("x", 1, turns.HOSTS_MISSING, hosts=["gone"])],
    ),
    "an earlier run may need them": (
        [Ticket("big", 1, [4], A), Ticket("x", 2, [1], A, only={"a": [3]})],
        {"a": used(1)},
        [
            Wait("big", 1, turns.BUSY, runs=["old"]),
            Wait("x", 2, turns.BEHIND, runs=["big"]),
        ],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_turns(case: str) -> None:
    tickets, hosts, expected = CASES[case]
    assert decide(tickets, hosts) == expected
    assert decide(reversed(tickets), hosts) == expected, "whatever the order they are seen in"


def test_a_run_that_begins_moves_no_earlier_one_to_another_host() -> None:
    """On b, `first` would be in the way of `second`."""
    first, second = Ticket("first", 1, [2], AB), Ticket("second", 2, [3], ("b",))
    hosts = {"a": used(4, seconds=60), "b": used(3, seconds=60)}
    answers = decide([first, second, Ticket("small", 3, [1], ("b",))], hosts)
    assert answers[2] == Begin("small", {"b": [3]})
    hosts["b"] = Host(range(4), [*hosts["b"].uses, Use("small", [3])])
    assert _estimates(decide([first, second], hosts)) == {"first": 60, "second": 60}


def test_runs_that_never_fit_use_up_no_place_of_the_plan() -> None:
    """Whoever fills the queue with impossible tickets stops nobody."""
    garbage = [Ticket(f"t{n}", n, [99], A, priority=9) for n in range(turns.MOST_PLANNED + 1)]
    assert decide([*garbage, Ticket("x", 1, [1], A)], idle("a"))[-1] == Begin("x", {"a": [0]})


def test_a_long_queue_is_decided_quickly() -> None:
    names = [f"h{number}" for number in range(64)]
    hosts = {name: used(6, name, 100.0 + at, gpus=8) for at, name in enumerate(names)}
    tickets = [
        Ticket(f"t{number}", number, [4] * (1 + number % 8), names, seconds=50.0 + number)
        for number in range(500)
    ]
    began = time.process_time()
    answers = decide(tickets, hosts)
    assert len(answers) == 500
    assert time.process_time() - began < 20


def _estimates(answers: list[Begin | Wait]) -> dict[str, float | None]:
    return {answer.name: answer.seconds for answer in answers if isinstance(answer, Wait)}


def test_a_run_whose_parts_have_their_hosts_begins_where_they_are() -> None:
    """The part of each host, not the one that a new run would have there."""
    parts = Ticket("mine", 1, [4, 2], ["a", "b"], parts={"a": 2, "b": 4})
    (answer,) = decide([parts], {"a": Host(range(4)), "b": Host(range(4))})
    assert isinstance(answer, Begin)
    assert {host: len(gpus) for host, gpus in answer.gpus.items()} == {"a": 2, "b": 4}
    used = {"a": Host(range(4)), "b": Host(range(4), [Use("other", {0}, 60.0)])}
    later = Ticket("later", 2, [2], ["a", "b"], seconds=30.0)
    first, second = decide([parts, later], used)
    assert isinstance(first, Wait)
    assert (first.why, first.seconds) == (turns.BUSY, 60.0)
    assert isinstance(second, Begin), "it ends before"
    (answer,) = decide([parts], {"a": Host(range(4)), "b": Host(range(2))})
    assert isinstance(answer, Wait)
    assert answer.why == turns.TOO_LARGE
    (answer,) = decide([parts], {"a": Host(range(4))})
    assert isinstance(answer, Wait)
    assert answer.why == turns.HOSTS_MISSING


class Storm:
    """Plays runs through: each ends after ``work`` seconds, which is at most its limit."""

    def __init__(self, jobs: list[tuple[float, Ticket, float]], hosts: dict[str, int]) -> None:
        self.coming = sorted(jobs, key=lambda job: job[0])
        self.hosts, self.now = hosts, 0.0
        self.waiting: dict[str, tuple[Ticket, float]] = {}
        self.running: dict[str, tuple[Ticket, float, float, dict[str, list[int]]]] = {}
        self.began: dict[str, float] = {}
        self.promised: dict[str, float] = {}

    def play(self) -> None:
        while self.coming or self.running or self.waiting:
            moments = [end for _, end, _, _ in self.running.values()]
            moments += [at for at, _, _ in self.coming[:1]]
            assert moments, f"all is idle and a run waits: {self.waiting}"
            self.now = min(moments)
            for name in [n for n, run in self.running.items() if run[1] <= self.now]:
                del self.running[name]
            while self.coming and self.coming[0][0] <= self.now:
                _, ticket, work = self.coming.pop(0)
                # Whoever comes before others may delay them.
                for other in [*self.promised]:
                    if self.waiting[other][0].key > ticket.key:
                        del self.promised[other]
                self.waiting[ticket.name] = (ticket, work)
            self._decide()

    def _decide(self) -> None:
        answers = self._ask()
        for answer in answers:
            if isinstance(answer, Begin):
                self._begin(answer)
        for answer in answers:
            if isinstance(answer, Wait):
                self._wait(answer)
        again = self._ask()
        assert not [answer for answer in again if isinstance(answer, Begin)]
        assert _estimates(again) == _estimates(answers), "a run that begins delays no earlier one"

    def _ask(self) -> list[Begin | Wait]:
        return decide([ticket for ticket, _ in self.waiting.values()], self._seen())

    def _wait(self, answer: Wait) -> None:
        assert answer.why in (turns.BUSY, turns.BEHIND)
        assert answer.runs, "it says for whom it waits"
        if answer.place == 1:
            at = turns.FOREVER if answer.seconds is None else self.now + answer.seconds
            assert at <= self.promised.get(answer.name, turns.FOREVER) + 1e-6, "kept"
            self.promised[answer.name] = at

    def _begin(self, answer: Begin) -> None:
        ticket, work = self.waiting.pop(answer.name)
        assert sorted(map(len, answer.gpus.values())) == sorted(ticket.shares), "all or nothing"
        for host, gpus in answer.gpus.items():
            assert host in ticket.hosts
            assert set(gpus) <= ticket.only.get(host, {*gpus})
            for _, _, _, others in self.running.values():
                assert not set(gpus) & set(others.get(host, ())), "no GPU twice"
        assert self.now <= self.promised.pop(answer.name, turns.FOREVER) + 1e-6
        limit = turns.FOREVER if ticket.seconds is None else self.now + ticket.seconds
        self.running[answer.name] = (ticket, self.now + work, limit, answer.gpus)
        self.began[answer.name] = self.now

    def _seen(self) -> dict[str, Host]:
        return {
            host: Host(
                range(gpus),
                [
                    Use(name, at[host], None if limit == turns.FOREVER else limit - self.now)
                    for name, (_, _, limit, at) in self.running.items()
                    if host in at
                ],
            )
            for host, gpus in self.hosts.items()
        }


NAMES = ("a", "b", "c", "d")


@st.composite
def jobs(
    draw: Any, limits: bool | None = None, named: bool = False
) -> list[tuple[float, Ticket, float]]:
    """Up to 30 runs for four hosts of four GPUs, as (arrival, ticket, work); some want certain GPUs."""
    made = []
    for number in range(draw(st.integers(1, 30))):
        hosts = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
        shares = draw(st.lists(st.sampled_from([1, 1, 2, 4]), min_size=1, max_size=len(hosts)))
        only = {}
        if named and draw(st.booleans()):
            some = st.lists(st.integers(0, 3), min_size=1, unique=True)
            only = {host: draw(some) for host in hosts}
            shares = [len(gpus) for gpus in only.values()]
        work = draw(st.integers(1, 20))
        limited = draw(st.booleans()) if limits is None else limits
        ticket = Ticket(
            f"run-{number:02d}",
            number,
            shares,
            hosts,
            priority=draw(st.sampled_from([0, 0, 0, 1])),
            seconds=work + draw(st.integers(0, 9)) if limited else None,
            only=only,
        )
        made.append((float(draw(st.integers(0, 30))), ticket, float(work)))
    return made


@pytest.mark.thorough
@settings(max_examples=60)
@given(jobs())
def test_a_storm_ends_and_no_gpu_is_given_twice(made: Any) -> None:
    storm = Storm(made, dict.fromkeys(NAMES, 4))
    storm.play()
    assert set(storm.began) == {ticket.name for _, ticket, _ in made}


@pytest.mark.thorough
@settings(max_examples=60)
@given(jobs(named=True))
def test_a_storm_ends_in_which_some_want_certain_gpus(made: Any) -> None:
    storm = Storm(made, dict.fromkeys(NAMES, 4))
    storm.play()
    assert set(storm.began) == {ticket.name for _, ticket, _ in made}


@pytest.mark.thorough
@settings(max_examples=60)
@given(jobs(limits=False), st.integers(0, 30))
def test_a_run_of_all_gpus_begins_before_all_that_come_later(made: Any, at: int) -> None:
    """Without time limits no later run may pass it: each could be running for ever."""
    big = Ticket("big", 100, [4, 4, 4, 4], NAMES, priority=2)
    storm = Storm([*made, (float(at), big, 5.0)], dict.fromkeys(NAMES, 4))
    storm.play()
    for arrival, ticket, _ in made:
        if arrival >= at:
            assert storm.began[ticket.name] >= storm.began["big"]
