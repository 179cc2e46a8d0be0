"""What a job needs of a host, and what may still bring it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from launcher.fleet.findings import ERROR, WARNING
from launcher.fleet.findings import job as findings
from launcher.spec.environments import Environment
from launcher.spec.model import Host, Job


@pytest.mark.parametrize(
    ("job", "level", "end"),
    [
        ({}, ERROR, "which the job imports"),
        ({"setup": "pip install x"}, WARNING, "its setup: may install it"),
        ({"environment": Environment(venv="/v")}, ERROR, "which the job imports"),
        ({"environment": Environment(uv=".")}, WARNING, "the environment built from . may have it"),
    ],
)
def test_what_is_missing_may_be_brought(job: dict[str, Any], level: str, end: str) -> None:
    survey: Any = SimpleNamespace(software=SimpleNamespace(missing=("wandb",)), no_paths=())
    wanted = Job(("train.py",), framework="env", **job)
    (found,) = findings._of_host(wanted, survey, Host("gpu1"), ERROR)
    assert (found.code, found.level) == ("JOB-IMPORT", level)
    assert found.evidence.endswith(end)
