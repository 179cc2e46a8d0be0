"""Which way to run a run may begin, from what its hosts say."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from launcher.agent.supervisor import stands, turns
from launcher.agent.supervisor.gang.decisions import Turn
from launcher.agent.supervisor.gang.ways import decide, hosts_with_gpus, numbers_of
from launcher.agent.supervisor.projects.quotas import LIMIT, QUOTA, Standing

RUN = "calm-hare"


def way(*hosts: str) -> Any:
    return {"counts": dict.fromkeys(hosts, 2)}


def stand(host: str, taken: Sequence[int] = (), more: Any = None, **own: Any) -> stands.Stand:
    """Return a host with a ticket of the run, and perhaps one ``more``."""
    ticket: Any = {
        "run": RUN, "priority": 0, "number": 1, "hosts": 3, "shares": [[2, 2]],
        "seconds": None, "aside": False,
    }  # fmt: skip
    there = [stands.Entered({**ticket, **own})]
    there += [stands.Entered({**ticket, **more})] if more else []
    uses = [turns.Use("other", taken)] if taken else []
    return stands.Stand(host, turns.Host([0, 1], uses), there, [])


PAIRS = [way(*pair) for pair in combinations("abc", 2)]


def test_it_begins_on_the_hosts_that_are_free() -> None:
    assert hosts_with_gpus(PAIRS) == ["a", "b", "c"]
    everything = [stand("a", [1]), stand("b"), stand("c")]
    assert decide(everything, RUN, PAIRS) == Turn(2, {"b": [0, 1], "c": [0, 1]})
    assert decide(everything[1:], RUN, PAIRS) == Turn(2, {"b": [0, 1], "c": [0, 1]})
    found = decide([stand("a", [1]), stand("b", [0]), stand("c")], RUN, PAIRS)
    assert isinstance(found, turns.Wait)
    assert found.why == turns.BUSY


def test_it_begins_on_hosts_that_reach_each_other() -> None:
    """The first two would be taken, if they did."""
    assert decide([stand(host) for host in "abc"], RUN, PAIRS[1:]) == Turn(
        0, {"a": [0, 1], "c": [0, 1]}
    )
    assert decide([stand("a"), stand("b"), stand("c", [0])], RUN, PAIRS[1:]) is None


def test_an_elastic_run_begins_on_as_many_as_are_free() -> None:
    """Its ticket asks for two hosts, and it has ways for two and for three."""
    every = [way("a", "b", "c"), *PAIRS]
    both = [0, 1]
    assert decide([stand(host) for host in "abc"], RUN, every) == Turn(
        0, {"a": both, "b": both, "c": both}
    )
    assert decide([stand("a"), stand("b", [1]), stand("c")], RUN, every) == Turn(
        2, {"a": both, "c": both}
    )
    assert decide([stand("a"), stand("c")], RUN, every) == Turn(2, {"a": both, "c": both})
    found = decide([stand("a"), stand("b", [1]), stand("c", [1])], RUN, every)
    assert isinstance(found, turns.Wait)
    assert (found.why, found.runs) == (turns.BUSY, ("other",))
    assert decide([stand(host) for host in "abc"], RUN, every[1:]) == Turn(
        0, {"a": both, "b": both}
    ), "all three do not reach each other"


def test_a_run_that_needs_all_hosts_has_one_way() -> None:
    every = [way("a", "b")]
    assert decide([stand("a"), stand("b")], RUN, every) == Turn(0, {"a": [0, 1], "b": [0, 1]})
    found = decide([stand("a")], RUN, every)
    assert isinstance(found, turns.Wait)
    assert found.why == turns.HOSTS_MISSING


SIZES = [way("a", "b", "c"), *PAIRS, way("a"), way("b"), way("c")]
COVERED, BORROWED = Standing(True), Standing(False)


def test_an_elastic_run_of_a_project_begins_on_as_many_as_the_rules_allow() -> None:
    assert numbers_of(SIZES) == [2, 4, 6]
    free = [stand(host, shares=[[1, 2]]) for host in "abc"]
    rules = {2: COVERED, 4: COVERED, 6: Standing(False, QUOTA)}
    assert decide(free, RUN, SIZES, rules) == Turn(1, {"a": [0, 1], "b": [0, 1]})
    rules = {2: COVERED, 4: BORROWED, 6: Standing(False, LIMIT)}
    assert decide(free, RUN, SIZES, rules) == Turn(1, {"a": [0, 1], "b": [0, 1]})
    assert decide(free, RUN, SIZES, dict.fromkeys((2, 4, 6), Standing(False, QUOTA))) is None


def test_what_an_elastic_run_borrows_has_the_place_of_what_is_borrowed() -> None:
    """Another run is within its quota and came later: it has its GPUs before this one borrows them."""
    later = {"run": "other", "number": 2, "shares": [[2, 2]], "hosts": 3, "within": True}
    free = [stand(host, more=later, shares=[[1, 2]], within=True) for host in "abc"]
    rules = {2: COVERED, 4: BORROWED, 6: BORROWED}
    assert decide(free, RUN, SIZES, rules) == Turn(4, {"a": [0, 1]})
    assert decide(free, RUN, SIZES, dict.fromkeys((2, 4, 6), COVERED)) == Turn(
        0, {"a": [0, 1], "b": [0, 1], "c": [0, 1]}
    )
