"""Which hosts are measured with which, and in what order."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.fleet.check.pairs import PARTNERS, rounds, spread


@given(st.integers(2, 70))
def test_rounds_are_disjoint_and_complete(count: int) -> None:
    names = [f"h{n}" for n in range(count)]
    schedule = rounds(names)
    assert len(schedule) == count - 1 + count % 2
    pairs = Counter(frozenset(pair) for pairs in schedule for pair in pairs)
    assert len(pairs) == count * (count - 1) // 2
    assert set(pairs.values()) == {1}
    for each in schedule:
        busy = [name for pair in each for name in pair]
        assert len(busy) == len(set(busy))


@pytest.mark.parametrize("count", [2, 8, 9, 10, 64])
def test_bandwidth_is_measured_with_a_few_others_each(count: int) -> None:
    """Of up to nine hosts that is every pair; and those of a large set are not all neighbours."""
    names = [f"h{n}" for n in range(count)]
    pairs = [pair for each in spread(rounds(names), PARTNERS) for pair in each]
    partners = Counter(name for pair in pairs for name in pair)
    assert all(min(count - 1, PARTNERS) - count % 2 <= n <= PARTNERS for n in partners.values())
    assert len(set(map(frozenset, pairs))) == len(pairs)
    if count > 16:
        apart = [abs(names.index(a) - names.index(b)) for a, b in pairs]
        assert sum(distance > count / 4 for distance in apart) > len(pairs) / 3
