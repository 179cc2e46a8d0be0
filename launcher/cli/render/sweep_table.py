"""Sweeps as tables: the trials of one, the best first, and all of them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from ...records.sweep_folder import PRUNED, RUNNING, SUCCEEDED, SweepSummary, TrialRecord
from .tables import age, counted, duration, table


def params_text(params: Mapping[str, str]) -> str:
    """Return ``lr=0.1 bs=32``."""
    return " ".join(f"{name}={value}" for name, value in params.items())


def number(value: float | None) -> str:
    """Return a value with six significant digits, or a dash."""
    return "-" if value is None else f"{value:.6g}"


def trials_table(sweep: SweepSummary, width: int | None = None) -> str:
    """Return the trials of a sweep, the best first. Where parameters leave no room in ``width`` columns
    (None: any), they come below each trial."""
    names = sweep.record.parameters
    with_value = sweep.record.metric is not None
    head = [*(["value"] if with_value else []), "status", "took", "run"]
    rows = [_row(trial, with_value) for trial in sweep.ranked]
    values = [[trial.params.get(name, "-") for name in names] for trial in sweep.ranked]
    text = table([*names, *head], [[*its, *row] for its, row in zip(values, rows, strict=True)])
    if width is None or max(map(len, text.split("\n"))) <= width:
        return text
    below = [params_text(trial.params) for trial in sweep.ranked]
    longer = [[*row, its] for row, its in zip(rows, below, strict=True)]
    return table([*head, "parameters"], longer, width=width)


def _row(trial: TrialRecord, with_value: bool) -> list[str]:
    status = trial.status
    if trial.failed and trial.reason:
        status = f"{status} ({trial.reason})"
    return [
        *([number(trial.value)] if with_value else []),
        status,
        "-" if trial.seconds is None else duration(trial.seconds),
        trial.run or "-",
    ]


def sentence(sweep: SweepSummary) -> str:
    """Return how far a sweep is: ``6 trials: 4 succeeded, 1 failed, 1 not started``."""
    total = sweep.record.trials
    counts = [
        (sweep.counted(SUCCEEDED), "succeeded"),
        (sweep.counted(RUNNING), "running" if sweep.is_held else "left running"),
        (sweep.counted(PRUNED), "pruned"),
        (sweep.failed, "failed"),
        (sweep.counted("stopped"), "stopped"),
        (total - len([t for t in sweep.trials if t.status != "waiting"]), "not started"),
    ]
    parts = [f"{count} {what}" for count, what in counts if count]
    return f"{counted(total, 'trial')}: {', '.join(parts)}"


def sweeps_table(sweeps: Sequence[SweepSummary], width: int | None = None) -> str:
    """Return a row for each sweep, in so many columns (None: any)."""
    now = time.time()
    rows = []
    for sweep in sweeps:
        best = next((t for t in sweep.ranked if t.value is not None), None)
        rows.append(
            (
                sweep.name,
                _status(sweep),
                f"{sweep.counted(SUCCEEDED)}/{sweep.record.trials}",
                str(sweep.failed or "-"),
                number(best.value) if best else "-",
                age(now - sweep.record.created),
                params_text(best.params) if best else ", ".join(sweep.record.parameters),
            )
        )
    return table(
        ("sweep", "status", "done", "failed", "best", "age", "parameters"), rows, width=width
    )


def _status(sweep: SweepSummary) -> str:
    if sweep.is_held:
        return "running"
    return "done" if sweep.counted(SUCCEEDED, PRUNED) == sweep.record.trials else "incomplete"
