"""How sweeps are listed, on screens of any width."""

from __future__ import annotations

import time

from launcher.cli.render.sweep_table import sweeps_table, trials_table
from launcher.records.sweep_folder import SweepRecord, SweepSummary, TrialRecord

NAMES = ("learning-rate", "weight-decay", "optimizer", "batch-size", "scheduler")
VALUES = dict(zip(NAMES, ("0.1", "0.0001", "adamw", "64", "linear"), strict=True))


def sweep() -> SweepSummary:
    record = SweepRecord((), "/", 2, NAMES, time.time(), "accuracy: (.*)")
    trial = TrialRecord("a", VALUES, "succeeded", "train-fb8b5be3-1fe5", value=0.97, seconds=7.0)
    return SweepSummary("train-sweep-ff96", record, (trial,), False)


def test_parameters_come_below_a_trial_where_there_is_no_room_beside_it() -> None:
    wide = trials_table(sweep(), 120).split("\n")
    assert wide == trials_table(sweep()).split("\n")
    assert wide[0].split() == [*NAMES, "value", "status", "took", "run"]
    assert trials_table(sweep(), 72).split("\n") == [
        "value  status     took   run",
        "0.97   succeeded  7.0 s  train-fb8b5be3-1fe5",
        "    learning-rate=0.1 weight-decay=0.0001 optimizer=adamw batch-size=64",
        "    scheduler=linear",
    ]


def test_a_list_of_sweeps_is_as_narrow_as_the_screen() -> None:
    lines = sweeps_table([sweep()], 72).split("\n")
    assert max(map(len, lines)) <= 72
    assert " ".join(" ".join(lines[2:]).split()) == " ".join(f"{n}={v}" for n, v in VALUES.items())
