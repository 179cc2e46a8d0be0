"""When a supervisor measures, and what it writes."""

from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path

import pytest

from launcher.agent.host import load
from launcher.agent.supervisor import metrics as module
from launcher.agent.supervisor.metrics import EVERY, Metrics


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def looked(metrics: Metrics, until: float) -> list[float]:
    """Look when it is time to; return the times between looks."""
    began, looks = time.monotonic(), [metrics.next_look]
    while looks[-1] < began + until:
        metrics.look(looks[-1])
        looks.append(metrics.next_look)
    return [later - earlier for earlier, later in pairwise(looks)]


def test_a_run_that_is_short_or_has_not_begun_measures_nothing(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.look(time.monotonic())
    metrics.begin([], "")
    metrics.look(metrics.next_look - 0.5)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert metrics.pids == set()
    metrics.close()


def test_looks_become_rarer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of the first seconds, then one every 5; after a day one every 9."""
    lines: list[object] = []
    monkeypatch.setattr(load, "counts", dict)
    monkeypatch.setattr(module, "_append", lines.append)
    metrics = Metrics()
    metrics.begin([], "")
    pauses = looked(metrics, 86400)
    assert pauses[:2] == pytest.approx([1.0, EVERY])
    assert pauses[-1] == pytest.approx(8.64, abs=0.1)
    assert len(lines) == len(pauses) - 1 < 16_000


def test_a_second_stage_goes_on(tmp_path: Path) -> None:
    metrics = Metrics()
    metrics.begin([], "")
    looked(metrics, 7)
    moment = metrics.next_look
    metrics.begin([], "")
    assert metrics.next_look == moment
    (first, _) = (tmp_path / "metrics.jsonl").read_bytes().splitlines()
    assert set(json.loads(first)) >= {"time", "disk", "memory"}
    assert (tmp_path / "metrics.jsonl").stat().st_mode & 0o777 == 0o600


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A run may put anything into its folder."""
    (tmp_path / "other").write_bytes(b"")
    (tmp_path / "metrics.jsonl").symlink_to("other")
    metrics = Metrics()
    metrics.begin([], "")
    looked(metrics, 7)
    assert (tmp_path / "other").read_bytes() == b""
