"""Which files are brought back."""

from __future__ import annotations

import pytest

from launcher.runner.files.choice import Choice
from support.jobs import job_of

JOB = "run: train.py\noutputs: [auto, runs]\nkeep_on_host: ['*.pt']\nbring: ['*.json', '*.pt', runs]\n"


@pytest.mark.parametrize(
    ("path", "is_brought"),
    [
        ("m.json", True),
        ("deep/m.json", True),
        ("m.txt", False),
        ("runs/x", True),
        ("a/b.pt", False),
    ],
)
def test_by_the_job(path: str, is_brought: bool) -> None:
    assert Choice.of(job_of(JOB)).has(path) is is_brought


def test_the_word_auto_is_no_path() -> None:
    choice = Choice.of(job_of(JOB))
    assert (choice.paths, choice.auto, choice.compares) == (("runs",), True, True)


def test_what_is_asked_for_by_name_comes_whatever_the_job_says() -> None:
    assert Choice.of(job_of(JOB), also=("big",)).has("big/a.pt")
    only = Choice.of(job_of(JOB), only=("*.pt",))
    assert only.has("a.pt")
    assert not only.has("m.json")
