"""The value of a trial is the last number of its pattern, in the log that counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.records import metric

PATTERN = r"loss: (\S+)"


def lay(run: Path, **logs: bytes) -> Path:
    for name, text in logs.items():
        attempt, rank, stream = name.split("_")
        path = run / "logs" / f"attempt-{attempt[1:]}" / f"rank-{rank[1:]}.{stream}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    return run


def test_the_last_number_of_rank_0(tmp_path: Path) -> None:
    run = lay(tmp_path, a0_r0_out=b"loss: 3\nloss: 2\nloss: nan\nbye\n", a0_r1_out=b"loss: 9\n")
    assert metric.last_value(run, PATTERN) == 2.0


def test_the_last_attempt_counts_and_another_rank_where_rank_0_is_silent(tmp_path: Path) -> None:
    run = lay(
        tmp_path,
        a0_r0_out=b"loss: 3\n",
        a1_r0_out=b"nothing\n",
        a1_r0_err=b"10%\rloss: 1,234.5\r",
        a1_r10_out=b"loss: 7\n",
    )
    assert metric.last_value(run, PATTERN) == 1234.5


def test_a_long_log_is_read_from_its_end(tmp_path: Path) -> None:
    long = b"loss: 4\n" + b"x" * (3 * metric.PIECE) + b"\n" + b"y\n" * metric.PIECE
    assert metric.last_value(lay(tmp_path, a0_r0_out=long), PATTERN) == 4.0


def test_none(tmp_path: Path) -> None:
    assert metric.last_value(tmp_path, PATTERN) is None
    assert metric.last_value(lay(tmp_path, a0_r0_out=b"loss: none\n"), PATTERN) is None


def test_what_programs_usually_print(tmp_path: Path) -> None:
    text = (
        b"epoch 1 loss: 0.9 acc 0.1\n"
        b"{'loss': 0.5, 'eval_accuracy': 0.91, 'epoch': 2}\n"
        b"val/loss=1.25e-1  top1_acc 71.2  acc@5: 93  accelerate 3  access: 4  loss.backward 7\n"
        b"loss of 3 hosts; f1: 1,234.5; score: n/a\r\n"
    )
    assert metric.last_values(lay(tmp_path, a0_r0_out=text, a0_r1_out=b"loss 9\n")) == {
        "acc": 0.1,
        "acc@5": 93.0,
        "eval_accuracy": 0.91,
        "f1": 1234.5,
        "loss": 0.5,
        "top1_acc": 71.2,
        "val/loss": 0.125,
    }
    silent = lay(tmp_path / "x", a0_r0_out=b"done\n", a0_r0_err=b"loss 1\n", a0_r1_out=b"acc 2\n")
    assert metric.last_values(silent) == {"loss": 1.0}
    assert metric.last_values(tmp_path / "nothing") == {}


def test_lines_that_may_have_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"nothing here\nloss 1\r10% Loss 2\rno\n\nacc 3\nmore of nothing\nend loss"
    for size in (1, 10, 1000):
        monkeypatch.setattr(metric, "BLOCK", size)
        found = list(metric.lines_with_names(data))
        named = [line for _, line in found if metric.named(line)]
        assert named == [b"loss 1", b"10% Loss 2", b"acc 3"]
        assert all(data[at:].startswith(line) for at, line in found)
    monkeypatch.setattr(metric, "BLOCK", 1)
    assert b"nothing here" not in [line for _, line in metric.lines_with_names(data)]
