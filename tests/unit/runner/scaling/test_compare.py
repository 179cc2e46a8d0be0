"""Trials of several sizes compared, and which size is recommended."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.cli.render import chart
from launcher.runner.scaling import compare as scale
from launcher.runner.scaling import rates


def trials(speeds: dict[int, float | None], gpus: int = 0) -> list[scale.Trial]:
    return [
        scale.Trial(
            nodes,
            processes=nodes,
            gpus=gpus * nodes,
            rate=rates.Rate(speed, "samples", 5) if speed else None,
            problem="" if speed else "it printed no number",
        )
        for nodes, speed in speeds.items()
    ]


SENTENCES = [
    (
        {1: 100, 2: 182, 4: 204},
        2,
        "Recommendation: 2 nodes (1.8x, 91 % efficiency). 4 nodes add 12 %.",
    ),
    (
        {1: 100, 2: 112, 4: 80},
        1,
        "Recommendation: 1 node. 2 nodes add 12 %; 4 are 20 % slower than 1.",
    ),
    (
        {1: 100, 2: 190},
        2,
        "Recommendation: 2 nodes (1.9x, 95 % efficiency). More were not tried.",
    ),
    (
        {1: 100, 2: 190, 4: None},
        2,
        "Recommendation: 2 nodes (1.9x, 95 % efficiency). No rate with 4.",
    ),
    (
        {1: None, 2: 5},
        None,
        "Only the trial on 2 nodes has a rate, so there is nothing to compare.",
    ),
    ({1: None}, None, "No trial has a rate, so there is nothing to compare."),
    (
        {1: 100, 2: 120, 4: 390},
        4,
        "Recommendation: 4 nodes (3.9x, 98 % efficiency). More were not tried.",
    ),
]


@pytest.mark.parametrize(("speeds", "take", "sentence"), SENTENCES)
def test_recommendation(speeds: dict[int, float | None], take: int | None, sentence: str) -> None:
    found = scale.compare(trials(speeds))
    assert (found.take, found.sentence) == (take, sentence)


@given(
    st.dictionaries(st.integers(1, 64), st.one_of(st.none(), st.floats(0.01, 1e9)), max_size=6),
    st.integers(0, 8),
)
@settings(max_examples=40)
def test_any_trials_are_compared(speeds: dict[int, float | None], gpus: int) -> None:
    """Relations that hold for all numbers; and a drawing that is well-formed."""
    found = scale.compare(trials(speeds, gpus))
    measured = [row for row in found.rows if row.trial.rate]
    assert [row.trial.nodes for row in found.rows] == sorted(speeds)
    for row in measured:
        assert row.trial.rate
        assert row.speedup == pytest.approx(row.trial.rate.value / speeds[measured[0].trial.nodes])
        assert row.efficiency == pytest.approx(
            row.speedup * measured[0].trial.nodes / row.trial.nodes
        )
        devices = row.trial.gpus or row.trial.processes
        assert row.cost == pytest.approx(devices / row.trial.rate.value / 3600 * found.work)
    assert (found.take is None) == (len(measured) < 2)
    assert found.take is None or speeds[found.take]
    drawn = ElementTree.fromstring(chart.svg(found.rows, "a <job> & more", found.sentence))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}circle")) == len(measured)
    for plain in (True, False):
        lines = chart.bars(found.rows, 80, plain)
        assert len(lines) == len(measured)
        assert all(len(line) <= 80 for line in lines)
