"""Optuna's part in a sweep: it proposes trials, and says which one falls behind."""

from __future__ import annotations

import math

import pytest

from launcher.jobs import matrix
from launcher.jobs.matrix import Trial
from launcher.jobs.sweep_file import Settings
from launcher.records.sweep_folder import PRUNED, SUCCEEDED, TrialRecord
from launcher.runner.study import Study

SPACE = {
    "lr": matrix.called("log_uniform", ["1e-5", "1e-1"]),
    "optimizer": matrix.choice(["adam", "sgd"]),
}
TPE = Settings(sampler="tpe", goal="min", metric="scalar:loss", max_trials=40)


def loss(trial: Trial) -> float:
    away = math.log10(float(trial.params["lr"])) + 3
    return away * away + (trial.params["optimizer"] == "sgd")


def asked(study: Study) -> Trial:
    trial = study.ask()
    assert trial is not None
    return trial


def test_it_learns_from_what_it_is_told_and_begins_alike() -> None:
    study, again = Study(SPACE, TPE, ()), Study(SPACE, TPE, ())
    found = []
    for number in range(40):
        trial = asked(study)
        if number < 5:
            assert asked(again) == trial
            again.tell(trial, SUCCEEDED, loss(trial))
        study.tell(trial, SUCCEEDED, loss(trial))
        found.append(loss(trial))
    assert len(set(found)) > 35
    assert sum(found[20:]) < sum(found[:20])


def test_several_at_once_are_different_and_values_may_be_used_up() -> None:
    study = Study({"a": matrix.choice(["1", "2", "3"])}, TPE, ())
    trials = [asked(study), asked(study), asked(study)]
    assert sorted(trial.params["a"] for trial in trials) == ["1", "2", "3"]
    assert study.ask() is None


def test_what_ended_before_is_known_and_not_proposed_again() -> None:
    known = [
        TrialRecord(Trial({"a": "1"}).id, {"a": "1"}, SUCCEEDED, value=0.5),
        TrialRecord(Trial({"a": "2"}).id, {"a": "2"}, PRUNED, value=0.9),
        TrialRecord(Trial({"a": "9"}).id, {"a": "9"}, SUCCEEDED, value=0.1),  # allowed no more
        TrialRecord(Trial({"a": "3"}).id, {"a": "3"}, "failed"),
    ]
    study = Study({"a": matrix.choice(["1", "2", "3"])}, TPE, known)
    assert asked(study).params == {"a": "3"}
    assert study.ask() is None


def fallen_behind(pruner: str) -> set[int]:
    """Which of 40 trials are stopped; each one's metric is its value, and grows alike."""
    settings = Settings(pruner=pruner, goal="max", metric="accuracy: (.*)")
    values = [str(n) for n in range(40)]
    study, behind = Study({"a": matrix.choice(values)}, settings, ()), set()
    for value in sorted(values, key=lambda one: -int(one) % 7):
        trial = Trial({"a": value})
        study.begin(trial)
        for step in range(30):
            if study.report(trial, step, float(value) + step):
                behind.add(int(value))
                study.tell(trial, PRUNED, float(value))
                break
        else:
            study.tell(trial, SUCCEEDED, float(value) + 29)
    return behind


@pytest.mark.parametrize("pruner", ["median", "asha", "hyperband"])
def test_a_trial_that_falls_behind_is_named_and_the_best_is_not(pruner: str) -> None:
    behind = fallen_behind(pruner)
    assert behind
    assert 39 not in behind
    assert sum(behind) / len(behind) < 19.5
    assert fallen_behind(pruner) == behind, "the same sweep stops the same trials"


def test_a_step_that_comes_again_is_ignored_and_an_unknown_trial_too() -> None:
    study = Study(SPACE, Settings(pruner="median", metric="x"), ())
    trial = Trial({"lr": "0.001", "optimizer": "adam"})
    study.begin(trial)
    study.begin(trial)
    assert [study.report(trial, step, 1.0) for step in (0, 1, 1, 0)] == [False] * 4
    study.tell(trial, "failed", None)
    study.tell(trial, "failed", None)
