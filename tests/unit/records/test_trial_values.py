"""How well a trial does while it runs: printed numbers, or a scalar of TensorBoard."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.summary import Writer

from launcher.jobs import sweep_file
from launcher.records import trial_values
from launcher.records.trial_values import last_value, reader

PATTERN = r"loss: (\S+)"


def say(run: Path, name: str, text: bytes) -> None:
    path = run / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(text)


def test_printed_values_come_as_they_are_printed(tmp_path: Path) -> None:
    values = reader(tmp_path, PATTERN)
    assert values.look() == []
    say(tmp_path, "attempt-0/rank-1.out", b"nothing\n")
    say(tmp_path, "attempt-0/rank-0.out", b"loss: 3\nloss: nan\nloss: 2\rlo")
    assert values.look() == [(0, 3.0), (1, 2.0)]
    say(tmp_path, "attempt-0/rank-0.out", b"ss: 1\n")
    say(tmp_path, "attempt-0/rank-1.out", b"loss: 9\n")
    assert values.look() == [(2, 1.0)]
    assert values.look() == []
    say(tmp_path, "attempt-1/rank-0.out", b"loss: 8\n")
    assert values.look() == [(0, 8.0)]
    assert last_value(tmp_path, PATTERN) == 8.0


@pytest.mark.parametrize("folder", ["", "runs/a"])
def test_a_scalar_comes_as_it_is_written(tmp_path: Path, folder: str) -> None:
    values = reader(tmp_path, "scalar:val/loss")
    assert values.look() == []
    writer = Writer(str(tmp_path / "outputs" / folder))
    for step in range(3):
        writer.add_scalar("val/loss", 0.5**step, step)
        writer.add_scalar("lr", 0.1, step)
    writer.flush()
    assert values.look() == [(0, 1.0), (1, 0.5), (2, 0.25)]
    assert values.look() == []
    writer.add_scalar("val/loss", float("nan"), 3)
    writer.add_scalar("val/loss", 0.125, 4)
    writer.close()
    assert values.look() == [(4, 0.125)]
    assert last_value(tmp_path, "scalar:val/loss") == 0.125
    assert last_value(tmp_path, "scalar:other") is None
    assert trial_values.SCALAR_OF == sweep_file.SCALAR_OF
