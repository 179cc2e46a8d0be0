"""What a sweep says of its trials while it runs."""

from __future__ import annotations

import pytest

from launcher.cli.commands.sweep import _Screen
from launcher.records.receipt import Receipt
from launcher.records.sweep_folder import TrialRecord


def ended(reason: str, error: str) -> tuple[TrialRecord, Receipt]:
    """Return a trial that failed before any process of it began, and the receipt of its run."""
    receipt = Receipt("x-1", "failed", reason, 1, 1.0, 2.0, {}, 1, "torch", error=error)
    return TrialRecord("1", {"lr": "1"}, "failed", "x-1", reason, seconds=2.0), receipt


def test_it_says_once_why_trials_could_not_start(capsys: pytest.CaptureFixture[str]) -> None:
    screen = _Screen(3, 0)
    for _ in range(2):
        screen.ended(*ended("unreachable", "cannot reach gpu2 port 22"))
    screen.ended(*ended("does-not-fit", "gpus: 9: the hosts have only 6 GPUs"))  # the end says it
    assert capsys.readouterr().err.splitlines() == [
        "[1/3] failed  lr=1  2.0 s  x-1",
        "  cannot reach gpu2 port 22",
        "[2/3] failed  lr=1  2.0 s  x-1",
        "[3/3] failed  lr=1  2.0 s  x-1",
    ]


def test_a_trial_waits_for_what_its_run_says(capsys: pytest.CaptureFixture[str]) -> None:
    quota = "project team-a has 2 GPUs, and its quota of 2 leaves no room for 2"
    _Screen(2, 0).waiting(*ended("gpu-busy", quota))
    assert capsys.readouterr().err == f"waits    lr=1: {quota}\n"
