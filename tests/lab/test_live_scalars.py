"""Scalars are here seconds after a script wrote them, whether or not outputs are pulled meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.summary import Writer

from launcher.records.scalars import Key, Scalars
from support import lab as labs
from support.command import Launcher, kill_follower, of_runs

TRAIN = """
import os, pathlib, sys, time
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "board")
out.mkdir(exist_ok=True)
here = pathlib.Path(os.environ["LAUNCHER_RUN_DIR"])
data = pathlib.Path("events.bin").read_bytes()
sizes = [*map(int, sys.argv[1:]), len(data)]
with open(out / f"events.out.tfevents.1.x.{os.environ['RANK']}", "wb", buffering=0) as file:
    for number, (start, end) in enumerate(zip([0, *sizes], sizes)):
        while number and not (here / f"go-{number}").exists():
            time.sleep(0.02)
        file.write(data[start:end])
"""


@pytest.fixture
def events(launcher: Launcher, tmp_path: Path) -> list[int]:
    """What the script writes is ready in three parts; the first ends within a record."""
    writer, sizes = Writer(str(tmp_path / "written")), []
    for step in range(3):
        writer.add_scalar("loss", 1.0 - step / 10, step, wall_time=100.0 + step)
        writer.flush()
        (file,) = (tmp_path / "written").iterdir()
        sizes.append(file.stat().st_size)
    writer.close()
    (launcher.work / "events.bin").write_bytes(file.read_bytes())
    launcher.script(TRAIN)
    return [sizes[0] + 9, sizes[1]]


def _steps(folder: Path) -> list[int]:
    found = Scalars(folder)
    found.look()
    series = found.series.get(Key("loss", "board"))
    return sorted(step for step, _, _ in series.points) if series else []


def _wait(folder: Path, count: int) -> None:
    labs.wait_until(lambda: len(_steps(folder)) == count, f"{count} points", 30)


def _go(lab: labs.Lab, run: str, number: int) -> None:
    for name in ("lab1", "lab2"):
        lab.hosts[name].write(f"/root/.launcher/host/runs/{run}/go-{number}", b"")


def test_scalars_come_without_a_pull_and_survive_drops(
    launcher: Launcher, clean: labs.Lab, events: list[int]
) -> None:
    """A dropped connection and a killed launcher cost and double no point; the pull at the end agrees."""
    words = ["--nodes", "2", "--framework", "env", "--pull-every", "1h", "--detach"]
    left = launcher.run(*words, "train.py", *map(str, events))
    assert left.code == 0, left.err
    folder, run = left.folder, left.folder.name
    _wait(folder, 2)
    assert not list((folder / "outputs").rglob("*tfevents*")), "no pull has brought them"
    clean.hosts["lab1"].kill_sshd_sessions()
    _go(clean, run, 1)
    _wait(folder, 4)
    kill_follower(folder)
    _go(clean, run, 2)
    labs.wait_until(lambda: not any(map(of_runs, clean.hosts.values())), "the end there", 30)
    assert len(_steps(folder)) == 4
    ended = launcher.call("attach", "-")
    assert ended.returncode == 0, ended.stderr
    assert _steps(folder) == [0, 0, 1, 1, 2, 2]
    whole = (launcher.work / "events.bin").read_bytes()
    for rank, host in enumerate(("lab1", "lab2")):
        name = f"board/events.out.tfevents.1.x.{rank}"
        live = folder / "live" / host / name
        assert live.read_bytes() == whole == (folder / "outputs" / name).read_bytes()
        assert live.samefile(folder / "outputs" / name), "its bytes are on this disk once"
    (entry,) = {host["logs_complete"] for host in left.receipt["hosts"]}
    assert entry, "they are none of the bytes of logs"


def test_outputs_that_stay_on_hosts_have_their_scalars_here(
    launcher: Launcher, clean: labs.Lab, events: list[int]
) -> None:
    words = ["--framework", "torch", "--keep-on-host", "*", "--hosts", "lab1"]
    left = launcher.run(*words, "train.py")
    assert left.code == 0, left.err
    assert _steps(left.folder) == [0, 1, 2]
    assert not any((left.folder / "outputs").rglob("*"))
    other = launcher.run(*words, "--keep-on-host", "*.tfevents.*", "--name", "not", "train.py")
    assert other.code == 0, other.err
    (folder,) = launcher.home.glob("runs/not-*")
    assert not (folder / "live").exists()
