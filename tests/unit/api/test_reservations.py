"""What a reservation asks for, and what it refuses before anything starts."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from launcher.api.reservations import job_of
from launcher.spec.errors import InputError


def test_it_is_a_run_that_does_nothing_with_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    job = job_of("A100:4", 5400.5, "gpu[1-2]", "demo")
    assert (job.name, job.run, job.hosts) == (
        "reserved-demo",
        ("exec sleep 5401  # holds GPUs for work by hand",),
        "gpu[1-2]",
    )
    assert (job.resources.gpus, job.resources.gpu_model) == (4, "A100")
    assert list(Path(job.workdir).iterdir()) == []


@pytest.mark.parametrize(
    ("gpus", "seconds"),
    [
        (0, 60),
        (-1, 60),
        ("A100", 60),
        (4, 0),
        (4, -5),
        (4, math.inf),
        (4, 15 * 86400),
        (4, math.nan),
    ],
)
def test_it_has_an_end_and_gpus(gpus: int | str, seconds: float) -> None:
    with pytest.raises(InputError):
        job_of(gpus, seconds, None, "")
