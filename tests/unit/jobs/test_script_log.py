"""The files that have a batch script's log, by Slurm's patterns."""

from __future__ import annotations

import pytest

from launcher.frameworks.slurm import number
from launcher.jobs import script_log
from launcher.spec.model import Job

RUN = "happy-otter-1"
ID = number(RUN)


def files(framework: str = "sbatch", **envs: str) -> dict[str, tuple[str, ...]]:
    job = Job(("bash",), name="train", framework=framework, envs=envs)
    return script_log.files(job, RUN, "gpu1", "ana")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("logs/%x-%j.out", f"logs/train-{ID}.out"),
        ("%N_%n_%3t_%s_%u.txt", "gpu1_0_000_batch_ana.txt"),
        ("100%%.out", "100%.out"),
        ("%A_%a.out", f"{ID}_0.out"),
        ("50%.out", "50%.out"),
    ],
)
def test_patterns(pattern: str, path: str) -> None:
    assert files(SBATCH_OUTPUT=pattern) == {path: ("out", "err")}


def test_elements_of_an_array() -> None:
    array = {"SLURM_ARRAY_JOB_ID": "77", "SLURM_ARRAY_TASK_ID": "3"}
    assert files(SBATCH_OUTPUT="%A_%4a.out", **array) == {"77_0003.out": ("out", "err")}


def test_both_streams_have_files() -> None:
    assert files(SBATCH_OUTPUT="a", SBATCH_ERROR="b") == {"a": ("out",), "b": ("err",)}
    assert files(SBATCH_OUTPUT="a", SBATCH_ERROR="a") == {"a": ("out", "err")}
    assert files(SBATCH_ERROR="b") == {"b": ("err",)}
    assert files() == files("env", SBATCH_OUTPUT="a") == {}


@pytest.mark.parametrize("path", ["/tmp/a", "~/a", "../a", "a/../../b", "", "."])
def test_nothing_is_written_outside_of_the_workdir(path: str) -> None:
    assert files(SBATCH_OUTPUT=path) == {}
