"""A run that may begin on any of its hosts, without a list of its ways."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest

from launcher.agent.supervisor import stands, turns
from launcher.agent.supervisor.gang import decisions
from launcher.agent.supervisor.gang.any_of import AnyOf
from launcher.agent.supervisor.gang.ways import decide, fits, numbers_of, sizes_of, tokens_of
from launcher.agent.supervisor.projects.quotas import LIMIT, Standing

HOSTS = "abcd"
RUN = "calm-hare"


def any_of(least: int, most: int, heads: str = "abc") -> AnyOf:
    def meeting(host: str) -> Any:
        return {"address": f"at-{host}", "interfaces": {}, "addresses": dict.fromkeys(HOSTS, host)}

    def tokens(size: int) -> list[Any]:
        return [{"gpus": ["7", "8"], "names": [], "ports": ["9"] * (size - n)} for n in range(size)]

    told: Any = {
        "hosts": list(HOSTS), "least": least, "most": most, "gpus": 2,
        "tokens": {str(size): tokens(size) for size in range(least, most + 1)},
        "heads": {host: meeting(host) for host in heads},
        "alone": {host: meeting(host) for host in HOSTS},
        "marks": [], "master": "", "names": {},
    }  # fmt: skip
    return AnyOf(told)


def listed(ways: AnyOf) -> list[Any]:
    """Return the same ways as a list."""
    every = [some for size in reversed(sizes_of(ways)) for some in combinations(HOSTS, size)]
    numbers = [ways.number_of(some) for some in every]
    return [ways[number] for number in numbers if number is not None]


def stand(host: str, taken: Any = (), **own: Any) -> stands.Stand:
    ticket: Any = {
        "run": RUN, "priority": 0, "number": 1, "hosts": 4, "shares": [[2, 2]],
        "seconds": None, "aside": False, **own,
    }  # fmt: skip
    uses = [turns.Use("other", taken)] if taken else []
    return stands.Stand(host, turns.Host([0, 1], uses), [stands.Entered(ticket)], [])


def test_each_way_has_a_number() -> None:
    ways = any_of(2, 3)
    assert len(listed(ways)) == 6 + 4
    number = ways.number_of(["d", "b"])
    assert number is not None
    way = ways[number]
    assert (way["address"], way["counts"]) == ("at-b", {"b": 2, "d": 2})
    assert list(tokens_of(ways, number)) == ["b", "d"]
    assert fits(ways, number, "b", {"names": [], "ports": [1, 2]})
    assert not fits(ways, number, "a", {"names": [], "ports": [1, 2]})
    for wrong in (-1, 0, 1, 0b1111, 1 << 4, 1 << 99):
        assert tokens_of(ways, wrong) == {}
    for hosts in (["a"], list(HOSTS), ["a", "e"]):
        assert ways.number_of(hosts) is None
    assert any_of(2, 3, "ac").number_of(["b", "c"]) is None, "c does not reach b"
    assert numbers_of(ways) == [4, 6]


@pytest.mark.parametrize("heads", ["abc", "bc", "c", "a"])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 2), (1, 3), (2, 4)])
def test_it_decides_as_if_its_ways_were_listed(sizes: tuple[int, int], heads: str) -> None:
    ways = any_of(*sizes, heads)
    every = listed(ways)
    shares = [[sizes[0], 2]]
    rules = {2: Standing(True), 4: Standing(True), 6: Standing(False, LIMIT)}
    rules[8] = rules[6]
    for count in range(len(HOSTS) + 1):
        for busy in combinations(HOSTS, count):
            known = [stand(host, [0] if host in busy else (), shares=shares) for host in HOSTS]
            for standings in (None, rules):
                found = decide(known, RUN, ways, standings)
                other = decide(known, RUN, every, standings) if every else None
                assert type(found) is type(other), (busy, found, other)
                if isinstance(found, decisions.Turn) and isinstance(other, decisions.Turn):
                    assert found.gpus == other.gpus
                    assert ways[found.way] == every[other.way]
            there = {*HOSTS}.difference(busy)
            enough = any(there >= set(way["tokens"]) for way in every)
            assert ways.suffice(there) == enough, busy
