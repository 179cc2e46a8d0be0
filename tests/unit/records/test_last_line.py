"""What lists of runs show of a run's output."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from launcher.records.last_line import Latest, last_line, progress


@pytest.mark.parametrize(
    ("line", "share"),
    [
        ("step 40/1000 loss=0.3", 0.04),
        ("Epoch [3/10], Step [50/100], Loss: 0.3", 0.25),
        ("Epoch 3/10:  50%|#####     | 50/100 [00:01<00:01]", 0.25),
        (" 45%|████▌     | 450/1000 [00:01<00:01, 400it/s]", 0.45),
        ("iteration: 1,500 of 3,000", 0.5),
        ("step 40/0", None),
        ("step 1200/1000", 1.0),
        ("Training ━━━━╸  42% 0:00:12", 0.42),
        ("acc 93.5 % of 2/3 answers", None),
        ("1/2 of the files", None),
        ("loss=0.3 step 40", None),
        ("10.45% |##        |", 0.1045),
        ("  0%|          | 0/1000 [00:00<?, ?it/s]", 0.0),
        (" 45%|####5     | 450/1000 [00:01<00:01, 400it/s]", 0.45),
        (" 45%|▍| 450/1000 [00:01<00:01, 400it/s]", 0.45),
        ("train: 100%|██████████| 1.2k/1.2k [00:01<00:00]", 1.0),
        ("    45% |██████████▏           | 45.2MB 10.1MB/s", 0.45),
        ("Working... ━━━━━━━━━╺━━━━━━━━━━  45% 0:00:12", 0.45),
        ("━━ 100%", 1.0),
        ("  [##########--------------]   45%  00:00:12", 0.45),
        ("[=====>....] 45%", 0.45),
        ("model.bin   45%[=======>          ]  45.2M  10.1MB/s", 0.45),
        ("##########                45.2%", 0.452),
        ("45/100 [=====>......] - ETA: 2s - acc: 0.45", None),
        ("45/100 ━━━━━━━━━━━━━━━━━━━━ 2s 20ms/step - acc: 0.45", None),
        ("━━━━━━━━━━━━━━ 45.2/100.0 MB 10.1 MB/s eta 0:00:05", None),
        ("val_acc=93.5%", None),
        ("Epoch 3: val acc=91%", None),
        ("[rank 0] 62% of GPU memory used", None),
        ("[ok] 62%", None),
        ("target > 90%", None),
        ("accuracy => 90%", None),
        ("accuracy == 90%", None),
        ("gpu_mem=45%|cpu=3%", None),
        ("| gpu 0 | 45% | 3% |", None),
        ("|45%|3%|", None),
        ("45% [rank 0]", None),
        ("Epoch 3/10: val acc=91%", 0.3),
    ],
)
def test_how_far_a_line_says_that_it_is(line: str, share: float | None) -> None:
    found = progress(["nothing", line])
    assert found == (None if share is None else pytest.approx(share))


def test_the_latest_line_to_say_it_counts() -> None:
    assert progress(["step 1/4", "step 2/4", "saved"]) == 0.5
    assert progress([]) is None
    assert progress(["Epoch 3/10", "45/100 [=====>......] - ETA: 2s"]) == 0.3


def test_the_last_line_is_that_of_the_log_that_was_written_last(tmp_path: Path) -> None:
    assert last_line(tmp_path) == Latest()
    log(tmp_path, "attempt-0/rank-0.out", b"step 9/10\n", 900)
    log(tmp_path, "attempt-1/rank-0.out", b"step 1/10\n", 100)
    log(tmp_path, "attempt-1/rank-1.err", b"10%\r\x1b[31mwarning\x1b[0m:\t\x07old\r\n\n \n", 200)
    assert last_line(tmp_path) == Latest("warning:    old", 0.1)
    log(tmp_path, "attempt-1/rank-0.out", b"x" * 20_000 + b"\nno newline yet", 300)
    assert last_line(tmp_path).line == "no newline yet"
    log(tmp_path, "attempt-1/rank-2.out", b"y" * 20_000, 400)
    assert last_line(tmp_path).line == "y" * 300
    os.symlink("/etc/passwd", tmp_path / "logs/attempt-1/rank-3.out")
    os.mkfifo(tmp_path / "logs/attempt-1/rank-4.out")
    assert last_line(tmp_path).line == "y" * 300


@pytest.mark.parametrize(
    ("data", "latest"),
    [
        (b"".join(b"\r %d%%|##   | of 90" % (n // 20) for n in range(1000)) + b"\n", 0.49),
        (b"".join(b"\r %d%%|##   | of 90" % (n // 20) for n in range(1000)) + b"\r\n\n", 0.49),
        (b"".join(b"\r %d%%|##   | of 90" % (n // 20) for n in range(1000)), 0.49),
        (b"y" * 9000 + b"\n", "y" * 300),
        (b"y" * 9000 + b"\r\n", "y" * 300),
        (b"y" * 9000 + b"\r\n \n", "y" * 300),
        (b"y" * 9000 + b"\nend\n", "end"),
    ],
)
def test_a_long_line_is_not_lost(tmp_path: Path, data: bytes, latest: object) -> None:
    log(tmp_path, "attempt-0/rank-0.out", data, 100)
    found = last_line(tmp_path)
    assert latest in (found.line, found.progress)


def test_of_many_logs_those_of_the_latest_attempt_count(tmp_path: Path) -> None:
    for attempt in range(20):
        for stream in ("out", "err"):
            name = f"attempt-{attempt}/rank-0.{stream}"
            log(tmp_path, name, b"step %d/100\n" % attempt, 100)
    assert last_line(tmp_path) == Latest("step 19/100", 0.19)
    for rank in range(64):
        log(tmp_path, f"attempt-20/rank-{rank}.out", b"step %d/100\n" % rank, 200 + rank)
    assert last_line(tmp_path) == Latest("step 63/100", 0.63)
    log(tmp_path, "attempt-21/rank-0.out", b"", 900)
    assert last_line(tmp_path).line == "step 63/100"


def log(run: Path, name: str, data: bytes, when: int) -> None:
    path = run / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    os.utime(path, (when, when))
