"""Compare trials: speed-up, efficiency, cost, and the recommended number of hosts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ...spec.frozen import frozen
from .rates import STEPS, Rate

#: The least gain of an added GPU that is worth it, as a part of a GPU's rate in the smallest trial.
WORTH = 0.5


@frozen
class Trial:
    """A short run on so many hosts. ``problem`` says why it has no rate; ``seconds`` is its duration.

    It used ``gpus`` GPUs; ``processes`` is the world size.
    """

    nodes: int
    run: str = ""
    hosts: tuple[str, ...] = ()
    gpus: int = 0
    processes: int = 0
    status: str = ""
    reason: str = ""
    seconds: float = 0.0
    left: int = 0
    rate: Rate | None = None
    problem: str = ""


@frozen
class Row:
    """A trial compared with the smallest one that has a rate.

    ``efficiency`` is the speed-up divided by the growth in GPUs (or processes); ``cost`` is in
    GPU-hours (or process-hours) for :attr:`Comparison.work` units.
    """

    trial: Trial
    speedup: float | None = None
    efficiency: float | None = None
    cost: float | None = None


@frozen
class Comparison:
    """All trials, by their number of hosts."""

    rows: tuple[Row, ...]
    unit: str | None
    device: str  # "GPU", or "process" where a trial had no GPU
    work: int  # how many units a cost is for
    take: int | None  # the number of hosts that is recommended
    sentence: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        rows = [
            {
                **asdict(row.trial),
                "speedup": row.speedup,
                "efficiency": row.efficiency,
                "cost": row.cost,
            }
            for row in self.rows
        ]
        cost = f"{self.device}-hours per {self.work} {self.unit}" if self.unit else None
        return {
            "unit": f"{self.unit}/s" if self.unit else None,
            "cost_unit": cost,
            "trials": rows,
            "take": self.take,
            "recommendation": self.sentence,
        }


def compare(trials: Sequence[Trial]) -> Comparison:
    """Return the trials side by side, with a recommendation."""
    ordered = sorted(trials, key=lambda trial: trial.nodes)
    measured = [trial for trial in ordered if trial.rate]
    with_gpus = bool(measured) and all(trial.gpus for trial in measured)
    work = _work(measured[0], with_gpus) if measured else 1
    rows = tuple(
        _row(trial, measured[0] if measured else trial, with_gpus, work) for trial in ordered
    )
    take, sentence = recommend(rows, with_gpus)
    unit = measured[0].rate.unit if measured and measured[0].rate else None
    return Comparison(rows, unit, "GPU" if with_gpus else "process", work, take, sentence)


def _devices(trial: Trial, with_gpus: bool) -> int:
    return max(1, trial.gpus if with_gpus else trial.processes)


def _hours(trial: Trial, with_gpus: bool) -> float:
    """Return the device-hours of one unit of work."""
    assert trial.rate is not None
    return _devices(trial, with_gpus) / trial.rate.value / 3600


def _work(base: Trial, with_gpus: bool) -> int:
    """Return for how many units the smallest trial's cost is a readable number."""
    work = 1
    while _hours(base, with_gpus) * work < 0.1 and work < 10**15:
        work *= 1000
    return work


def _row(trial: Trial, base: Trial, with_gpus: bool, work: int) -> Row:
    if trial.rate is None or base.rate is None:
        return Row(trial)
    speedup = trial.rate.value / base.rate.value
    more = _devices(trial, with_gpus) / _devices(base, with_gpus)
    return Row(trial, speedup, speedup / more, _hours(trial, with_gpus) * work)


def recommend(rows: Sequence[Row], with_gpus: bool) -> tuple[int | None, str]:
    """Return how many hosts to use, and why, in sentences.

    From the smallest number up, a larger one is taken when each GPU that it adds brings at least
    ``WORTH`` of what one brings in the smallest trial.
    """
    measured = [row for row in rows if row.speedup is not None]
    missing = [row.trial.nodes for row in rows if row.speedup is None]
    if not measured:
        return None, "No trial has a rate, so there is nothing to compare."
    base = measured[0]
    if len(measured) == 1:
        return None, f"Only the trial on {_nodes(base)} has a rate, so there is nothing to compare."
    chosen = base
    for row in measured[1:]:
        if _pays(row, chosen, base, with_gpus):
            chosen = row
    larger = [row for row in measured if row.trial.nodes > chosen.trial.nodes]
    gain = ""
    if chosen is not base:
        gain = f" ({chosen.speedup:.2g}x, {100 * (chosen.efficiency or 0):.0f} % efficiency)"
    others = [_adds(row, chosen, with_word=n == 0) for n, row in enumerate(larger[:2])]
    if missing:
        others.append(f"{'no' if others else 'No'} rate with {_list(missing)}")
    elif not larger:
        others.append("More were not tried")
    return chosen.trial.nodes, f"Recommendation: {_nodes(chosen)}{gain}. {'; '.join(others)}."


def _pays(row: Row, chosen: Row, base: Row, with_gpus: bool) -> bool:
    assert row.trial.rate
    assert chosen.trial.rate
    assert base.trial.rate
    gained = row.trial.rate.value - chosen.trial.rate.value
    added = _devices(row.trial, with_gpus) - _devices(chosen.trial, with_gpus)
    alone = base.trial.rate.value / _devices(base.trial, with_gpus)
    return gained > 0 and gained >= WORTH * alone * added


def _adds(row: Row, chosen: Row, with_word: bool) -> str:
    assert row.speedup is not None
    assert chosen.speedup is not None
    who = _nodes(row) if with_word else str(row.trial.nodes)
    percent = round(100 * (row.speedup / chosen.speedup - 1))
    if percent < 0:
        return f"{who} are {-percent} % slower than {chosen.trial.nodes}"
    return f"{who} add {percent} %" if percent else f"{who} add nothing"


def _nodes(row: Row) -> str:
    return "1 node" if row.trial.nodes == 1 else f"{row.trial.nodes} nodes"


def _list(numbers: Sequence[int]) -> str:
    return " and ".join(map(str, numbers))


def caution(comparison: Comparison, per_rank: bool) -> str:
    """Return the assumption behind the numbers; empty when there is none to mention."""
    if comparison.unit != STEPS or per_rank or len(comparison.rows) < 2:
        return ""
    return (
        "steps are compared, as if a step were the same work on any number of nodes; if every rank "
        "has its own batch of a fixed size, add --per-rank"
    )
