"""The scalars of a run are found in its outputs and logs, and only what is new is read again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tensorboard.summary import Writer

from launcher.records import scalars
from launcher.records.scalars import Key, Scalars, Series, logs_of, step_of


def logged(run: Path, name: str, text: str) -> None:
    path = run / "logs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(text)


def values(found: Scalars, tag: str, source: str) -> list[tuple[int, float]]:
    return [(step, value) for step, _, value in found.series[Key(tag, source)].points]


def test_tensorboard_and_logs_as_they_grow(tmp_path: Path) -> None:
    found = Scalars(tmp_path)
    assert found.look() and not found.series
    writer = Writer(str(tmp_path / "outputs" / "board"))
    writer.add_scalar("train/loss", 0.5, 1, wall_time=100.0)
    writer.flush()
    logged(tmp_path, "attempt-0/rank-0.out", "step 1 loss=0.5\nstep 2 loss=0.4\nstep 3 lo")
    assert found.look()
    assert values(found, "train/loss", "board") == [(1, 0.5)]
    assert found.series[Key("train/loss", "board")].points[0][1] == 100.0
    assert values(found, "loss", "rank 0") == [(1, 0.5), (2, 0.4)]

    writer.add_scalar("train/loss", 0.25, 2)
    writer.close()
    logged(tmp_path, "attempt-0/rank-0.out", "ss=0.3\n")
    logged(tmp_path, "attempt-1/rank-1.err", "10%| 4/9 [00:01, loss=7]\r")
    assert found.look()
    assert values(found, "train/loss", "board") == [(1, 0.5), (2, 0.25)]
    assert values(found, "loss", "rank 0") == [(1, 0.5), (2, 0.4), (3, 0.3)]
    assert values(found, "loss", "rank 1") == [(4, 7.0)]


def test_steps_that_begin_again_in_each_epoch_go_on(tmp_path: Path) -> None:
    logged(
        tmp_path,
        "attempt-0/rank-0.out",
        "epoch 0 step 1 loss 4\nepoch 0 step 2 loss 3\nepoch 1 step 1 loss 2\nepoch 1 step 2 loss 1\n",
    )
    found = Scalars(tmp_path)
    found.look()
    assert values(found, "loss", "rank 0") == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]


@pytest.mark.parametrize(
    ("line", "step"),
    [
        (b"step 12 loss=1", 12),
        (b"[global_step: 7] loss: 1", 7),
        (b"{'loss': 1.0, 'epoch': 3}", 3),
        (b"Epoch [2/10] Iter [40/100] loss 1", 40),
        (b" 45%|##  | 45/100 [00:01<00:02, 30it/s, loss=0.3]", 45),
        (b"timestep_embedding loss 3", None),
        (b"loss 3", None),
    ],
)
def test_the_step_of_a_line(line: bytes, step: int | None) -> None:
    assert step_of(line) == step


def test_lines_without_steps_are_counted_and_know_when_they_came(tmp_path: Path) -> None:
    logged(tmp_path, "attempt-0/rank-0.out", "loss 3\nloss 2\nloss 1\n")
    name = "attempt-0/rank-0.out"
    (tmp_path / "times.jsonl").write_text(f'[50.0, "{name}", 7]\n{{\n[60.0, "{name}", 21]\n')
    found = Scalars(tmp_path)
    found.look()
    assert found.series[Key("loss", "rank 0")].points == [(0, 50.0, 3), (1, 60.0, 2), (2, 60.0, 1)]


def test_a_long_curve_is_thinned_evenly() -> None:
    series = Series()
    for step in range(3 * scalars.MOST):
        series.add(step, 0.0, float(step))
    assert len(series.points) < scalars.MOST
    gaps = {b[0] - a[0] for a, b in zip(series.points, series.points[1:], strict=False)}
    assert gaps == {4}
    few = series.at_most(100)
    assert len(few) <= 101 and few[-1] == series.last
    assert (series.least, series.most) == (0.0, 3 * scalars.MOST - 1)


def test_one_look_reads_no_more_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scalars, "BUDGET", 1000)
    for rank in range(3):
        logged(tmp_path, f"attempt-0/rank-{rank}.out", "loss 1.0\n" * 200)
    found = Scalars(tmp_path)
    looks = 1
    while not found.look():
        looks += 1
    assert looks > 4
    assert [one.count for one in found.series.values()] == [200, 200, 200]


def test_the_latest_attempts_are_read_of_a_run_that_was_started_often(tmp_path: Path) -> None:
    for attempt in range(scalars.LOGS):
        for rank in range(2):
            logged(tmp_path, f"attempt-{attempt}/rank-{rank}.out", f"step {attempt} loss 1.0\n")
    logs = [path.parent.name + "/" + name for path, name in logs_of(tmp_path)]
    assert len(logs) == scalars.LOGS
    assert logs[:2] == ["attempt-16/rank 0", "attempt-17/rank 0"]
    assert logs[-1] == f"attempt-{scalars.LOGS - 1}/rank 1"


def test_no_link_is_followed_and_no_pipe_waited_for(tmp_path: Path) -> None:
    elsewhere, run = tmp_path / "elsewhere", tmp_path / "run"
    writer = Writer(str(elsewhere))
    writer.add_scalar("secret", 1.0, 1)
    writer.close()
    (run / "outputs").mkdir(parents=True)
    (run / "outputs" / "folder").symlink_to(elsewhere)
    (run / "outputs" / "a.tfevents.1").symlink_to(next(elsewhere.iterdir()))
    os.mkfifo(run / "outputs" / "b.tfevents.2")
    (run / "outputs" / "c.tfevents.3").write_bytes(b"\xff" * 64)
    found = Scalars(run)
    assert found.look() and found.look()
    assert not found.series


#: The logs of a run, and the sources of the numbers in them.
SOURCES = [
    (["setup-0.out", "node-0.out", "node-1.out"], ["node 0", "node 1"]),  # env, mpi, sbatch
    (["worker-2.out", "ps-0.err", "setup-0.out"], ["ps 0", "worker 2"]),
    (["rank-1.out", "rank-0.err", "node-0.out", "node-0.err"], ["rank 0", "rank 1", "node 0"]),
    (["setup-0.out", "notes.txt", "x-1.log"], []),
]


@pytest.mark.parametrize(("logs", "sources"), SOURCES)
def test_the_numbers_in_every_kind_of_log(
    tmp_path: Path, logs: list[str], sources: list[str]
) -> None:
    folder = tmp_path / "logs/attempt-0"
    folder.mkdir(parents=True)
    for name in logs:
        (folder / name).write_text("step 1 loss=2\n")
    found = Scalars(tmp_path)
    assert found.look()
    assert [key.source for key in found.series] == sources


@pytest.mark.timeout(60)
def test_records_without_an_end_hold_nobody_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look reads the rests of such files again: it is the last one, also if it may read no more."""
    writer = Writer(str(tmp_path / "whole"))
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    (whole,) = (tmp_path / "whole").iterdir()
    for number in range(5):
        cut = tmp_path / f"outputs/{number}/{whole.name}"
        cut.parent.mkdir(parents=True)
        cut.write_bytes(whole.read_bytes()[:20])
    monkeypatch.setattr(scalars, "BUDGET", 60)
    found = Scalars(tmp_path)
    while not found.look():
        pass
    assert found.series == {}
