"""The value of a trial is the last number of its pattern, in the log that counts."""

from __future__ import annotations

from pathlib import Path

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
