"""The picture of a sweep: one file that any browser shows."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from launcher.cli.render.sweep_picture import svg
from launcher.records.sweep_folder import SweepRecord, SweepSummary, TrialRecord

SVG = "{http://www.w3.org/2000/svg}"


def sweep(*trials: TrialRecord, goal: str = "max") -> SweepSummary:
    record = SweepRecord(("x",), "/", len(trials), ("lr", "opt"), 0.0, "acc: (.*)", goal)
    return SweepSummary("a<b", record, trials, False)


def trial(number: int, value: float | None, status: str = "succeeded") -> TrialRecord:
    params = {"lr": f"{10.0**-number:g}", "opt": ["adam", "<sgd>"][number % 2]}
    return TrialRecord(str(number), params, status, value=value)


def drawn(found: SweepSummary) -> ElementTree.Element:
    return ElementTree.fromstring(svg(found))


@pytest.mark.parametrize(("goal", "best"), [("max", "rgb(22,103,183)"), ("min", "rgb(22,103,183)")])
def test_each_trial_with_a_value_is_a_point_and_a_line(goal: str, best: str) -> None:
    trials = (trial(1, 0.5), trial(2, 0.9), trial(3, 0.7, "pruned"), trial(4, None, "failed"))
    root = drawn(sweep(*trials, goal=goal))
    circles = root.findall(f"{SVG}circle")
    assert len(circles) == 3
    assert [one.get("fill") for one in circles].count("white") == 1, "the pruned one"
    assert circles[0].find(f"{SVG}title").text == "lr=0.1 opt=<sgd>: 0.5, succeeded"  # type: ignore[union-attr]
    so_far, *lines = root.findall(f"{SVG}polyline")
    heights = [point.split(",")[1] for point in str(so_far.get("points")).split()]
    assert (heights[0] == heights[1]) is (goal == "min"), "the best so far"
    assert lines[-1].get("stroke") == best, "the best one is on top"
    texts = [str(one.text) for one in root.iter(f"{SVG}text")]
    assert {"lr", "opt", "value", "adam", "<sgd>", "0.001", "0.1"} <= set(texts)


def test_any_values_can_be_drawn() -> None:
    assert "no trial has a value" in svg(sweep())
    assert "no trial has a value" in svg(sweep(trial(1, None)))
    drawn(sweep(trial(1, 0.5)))
    drawn(sweep(*(trial(n % 3, float(n)) for n in range(2000))))
    odd = TrialRecord("1", {"lr": "nan"}, "succeeded", value=1e300)
    drawn(sweep(odd, TrialRecord("2", {"lr": "1", "opt": "\u2028"}, "succeeded", value=-1e300)))
