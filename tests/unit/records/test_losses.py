"""The loss of a run in little: of a long log the end, and TensorBoard's own where there is any."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.summary import Writer

from launcher.records import losses
from launcher.records.losses import Losses


def test_a_long_log_is_read_from_near_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "MOST_LOG", 3000)
    monkeypatch.setattr(losses, "BUDGET", 1000)
    log = tmp_path / "logs/attempt-0/rank-0.out"
    log.parent.mkdir(parents=True)
    log.write_text("".join(f"step {n} loss={n}\n" for n in range(1000)))
    log.with_name("rank-1.out").write_text("step 1 loss=7\n")
    found = Losses(tmp_path)
    looks = 1
    while not found.look():
        looks += 1
        assert looks < 9
    tag, values = found.curve(10)
    assert looks > 2, "each look is bounded"
    assert (tag, values[-1]) == ("loss", 999.0)
    assert values[0] > 700, "not from the beginning, and of rank 0"
    assert len(values) <= 11


def test_tensorboards_loss_counts_and_that_of_training_first(tmp_path: Path) -> None:
    log = tmp_path / "logs/attempt-0/rank-0.out"
    log.parent.mkdir(parents=True)
    log.write_text("step 1 loss=7\n")
    writer = Writer(str(tmp_path / "outputs"))
    for tag in ("val/loss", "lr", "train/loss"):
        writer.add_scalar(tag, len(tag), 1)
    writer.close()
    found = Losses(tmp_path)
    assert found.look()
    assert found.curve(10) == ("train/loss", [10.0])


def test_a_run_without_any(tmp_path: Path) -> None:
    found = Losses(tmp_path)
    assert found.look()
    assert found.curve(10) == ("", [])


def test_what_a_rank_writes_to_stderr_does_not_hide_its_loss(tmp_path: Path) -> None:
    logs = tmp_path / "logs/attempt-0"
    logs.mkdir(parents=True)
    (logs / "rank-0.err").write_text("UserWarning: slow\n")
    (logs / "rank-0.out").write_text("step 1 loss=7\n")
    found = Losses(tmp_path)
    assert found.look()
    assert found.curve(10) == ("loss", [7.0])


def test_the_loss_of_a_role(tmp_path: Path) -> None:
    logs = tmp_path / "logs/attempt-0"
    logs.mkdir(parents=True)
    (logs / "actor-0.out").write_text("waiting\n")
    (logs / "learner-0.out").write_text("step 1 loss=3\n")
    (logs / "learner-1.out").write_text("step 1 loss=4\n")
    found = Losses(tmp_path)
    assert found.look()
    assert found.curve(10) == ("loss", [3.0])
