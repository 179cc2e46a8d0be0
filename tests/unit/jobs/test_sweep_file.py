"""Sweeps as people write them: in a job file, or as words."""

from __future__ import annotations

import pytest

from launcher.jobs import job_file, sweep_file
from launcher.jobs.matrix import Choice, Uniform
from launcher.jobs.sweep_file import Settings
from launcher.spec.errors import DocumentError, InputError

FILE = """\
name: digits
run: train.py --epochs 3
matrix:
  lr: [0.1, 1e-2]
  optimizer: {choice: [adam, sgd]}
  decay: log_uniform(1e-5, 1e-1)
  depth: 4
sweep:
  sampler: random
  metric: 'accuracy: ([0-9.]+)'
  goal: min
  max_trials: 8
  concurrency: 2
  seed: 3
  max_failures: 20%
"""


def test_a_file() -> None:
    found = sweep_file.load(FILE, "job.yaml")
    assert found.values["run"] == ("train.py --epochs 3",)
    assert found.matrix == {
        "lr": Choice(("0.1", "1e-2")),
        "optimizer": Choice(("adam", "sgd")),
        "decay": Uniform(1e-5, 1e-1, log=True),
        "depth": Choice(("4",)),
    }
    assert list(found.matrix) == ["lr", "optimizer", "decay", "depth"]
    metric = "accuracy: ([0-9.]+)"
    assert found.settings == Settings("random", metric, "min", 8, 2, 3, 0.2)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("run: train.py\n", 1, 'no "matrix"'),
        ("run: train.py\nmatrix: 3\n", 2, "a mapping of parameters"),
        ("run: train.py\nmatrix: {}\n", 2, "a parameter and its values"),
        ("run: train.py\nmatrix:\n  lr: [1, 1]\n", 3, "lr: '1' stands twice"),
        ("run: train.py\nmatrix:\n  lr: {uniform: [2, 1]}\n", 3, "lr: uniform takes"),
        ("run: train.py\nmatrix:\n  lr: {pick: [2, 1]}\n", 3, "lr: one of choice, range"),
        ("run: train.py\nmatrix:\n  'a b': [1, 2]\n", 3, "cannot be a parameter"),
        ("run: train.py\nmatrix: {a: [1]}\nsweep: {sampler: tea}\n", 3, "none of grid, random"),
        ("run: train.py\nmatrix: {a: [1]}\nsweep: {metric: loss}\n", 3, "needs one group"),
        ("run: train.py\nmatrix: {a: [1]}\nsweep: {metric: '('}\n", 3, "not a regular expression"),
        ("run: train.py\nmatrix: {a: [1]}\nsweep: {max_failures: 0%}\n", 3, "number of failures"),
        ("run: train.py\nmatrix: {a: [1]}\nsweep: {metrics: x}\n", 3, 'unknown key "metrics"'),
        ("run: [t.py, '{{params.b}}']\nmatrix: {a: [1]}\n", 2, "matrix: has no 'b'"),
        ("runs: train.py\nmatrix: {a: [1]}\n", 1, 'unknown key "runs"'),
    ],
)
def test_a_bad_file(text: str, line: int, problem: str) -> None:
    with pytest.raises(DocumentError) as caught:
        sweep_file.load(text, "job.yaml")
    assert problem in caught.value.message
    assert caught.value.line == line


def test_run_points_to_sweep() -> None:
    with pytest.raises(DocumentError) as caught:
        job_file.load(FILE, "job.yaml")
    assert "launcher sweep job.yaml" in caught.value.hint


@pytest.mark.parametrize(
    ("words", "command"),
    [
        (["t.py", "--lr", "[0.1, 0.2]", "x"], ("t.py", "--lr", "{{params.lr}}", "x")),
        (["t.py", "--lr=[0.1, 0.2]"], ("t.py", "--lr={{params.lr}}")),
        (["t.py", "-m", "lr=0.1,0.2"], ("t.py", "-m", "lr={{params.lr}}")),
        (["t.py", "opt.lr=uniform(0,1)"], ("t.py", "opt.lr={{params.opt.lr}}")),
        (["cd x; t {{params.lr}} -v", "--lr", "[1, 2]"], ("cd x; t {{params.lr}} -v",)),
        (["t.py", "lr=1,2", "--out", "o-{{params.lr}}"], ("t.py", "--out", "o-{{params.lr}}")),
        (["t.py", "{{params.lr}}", "--fast", "--lr=[1, 2]"], ("t.py", "{{params.lr}}", "--fast")),
    ],
)
def test_words(words: list[str], command: tuple[str, ...]) -> None:
    found, values = sweep_file.from_words(words)
    assert found == command
    assert len(values) == 1


def test_a_place_in_a_variable_counts_as_well() -> None:
    words = ["t.py", "--lr", "[1, 2]", "x"]
    assert sweep_file.from_words(words, ["LR={{params.lr}}"])[0] == ("t.py", "x")


def test_words_that_are_single_values_stay() -> None:
    words = ["t.py", "--files=a,b", "--size", "1,2", "name=x", "--lr", "[1, 2]"]
    assert sweep_file.from_words(words)[0] == (*words[:-1], "{{params.lr}}")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["t.py", "--lr", "0.1"], "nothing varies"),
        (["t.py", "{{params.lr}}", "--x", "[1, 2]"], "params.lr}} is used, and has no values"),
        (["t.py", "--lr", "[0.1, 0.1]"], "stands twice"),
        (["t.py", "--lr", "[1, 2]", "--lr=[3, 4]"], "lr has values twice"),
    ],
)
def test_bad_words(words: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        sweep_file.from_words(words)


@pytest.mark.parametrize(
    ("text", "run"),
    [
        ("run: train.py", ("train.py --lr 'a b'",)),
        ("run: [train.py, -v]", ("train.py", "-v", "--lr", "a b")),
        ("run: 'train.py {{params.lr}}'", ("train.py 'a b'",)),
        ("run: [train.py, '{{params.lr}}']", ("train.py", "a b")),
        ("framework: env\nrun: 'echo $LAUNCHER_PARAM_LR'", ("echo $LAUNCHER_PARAM_LR",)),
    ],
)
def test_the_values_of_a_trial(text: str, run: tuple[str, ...]) -> None:
    """They are whole words, whatever is in them."""
    sweep = sweep_file.load(
        f"{text}\nenvs: {{N: 'v-{{{{params.lr}}}}'}}\nmatrix: {{lr: [a b]}}\n", "f"
    )
    sweep.values["envs"].pop("N") if "params" not in text else None
    values = sweep_file.values_of(sweep, {"lr": "a b"})
    assert values["run"] == run
    assert values["envs"]["LAUNCHER_PARAM_LR"] == "a b"
    assert values["envs"].get("N", "v-a b") == "v-a b"
