"""torchrun's elastic mode: a host is lost in the middle of training, and the others go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from launcher.jobs import job_file as jobs
from launcher.records import events as ev
from launcher.records.reasons import StopReason
from launcher.records.state import fold
from launcher.runner.policy import elastic
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Layout, Node
from support import lab as labs
from support.command import Launcher, wait_for
from support.hosts import SPECS

LAYOUT = Layout("r", tuple(Node(Host(f"gpu{n}"), n, 1, n) for n in range(3)))


def started(rank: int, time: float) -> ev.ProcessStarted:
    return ev.ProcessStarted(time, f"gpu{rank}", 0, f"rank-{rank}", rank, 7)


def exited(time: float, host: int, code: int, node: bool = False, **more: bool) -> ev.ProcessExited:
    key = f"node-{host}" if node else f"rank-{host}"
    return ev.ProcessExited(time, f"gpu{host}", 0, key, None if node else host, code, **more)


def lost(host: int) -> ev.NodeLost:
    return ev.NodeLost(9.0, f"gpu{host}", "host-unreachable")


@pytest.mark.parametrize(
    ("events", "least", "few"),
    [
        ([], 1, False),
        ([lost(2)], 2, False),
        ([lost(2)], 3, True),
        ([lost(0)], 1, True),
        ([exited(1.0, 2, 1, node=True, tolerated=True), lost(1)], 2, True),
        ([exited(1.0, 2, 0, node=True), lost(1)], 2, False),
        ([exited(1.0, 1, 1, tolerated=True)], 3, False),
    ],
)
def test_whether_a_group_goes_on(events: list[ev.Event], least: int, few: bool) -> None:
    """A rank that failed is started again; a host is gone with its torchrun."""
    assert elastic.too_few(fold(events), LAYOUT, least) is few


def test_it_is_over_when_only_silent_hosts_are_missing() -> None:
    done = [exited(5.0, 0, 0, node=True), ev.HostEnded(5.0, "gpu0", 0, 9, 0)]
    done += [ev.HostEnded(5.0, "gpu1", 0, 9, 0)]
    assert not elastic.is_over(fold(done), LAYOUT, 1)
    silent = fold([*done, ev.ConnectionDropped(6.0, "gpu2", "x")])
    assert elastic.is_over(silent, LAYOUT, 1)
    assert elastic.finished_on(silent, LAYOUT) is None, "it was not given up yet"
    assert elastic.finished_on(fold([lost(2)], silent), LAYOUT) == 2
    assert elastic.finished_on(fold([lost(2)]), LAYOUT) is None


ENDS = [exited(2.0, 1, 3, tolerated=True), started(1, 5.0), exited(7.0, 2, -9, tolerated=True),
        exited(8.0, 1, 1, tolerated=True)]  # fmt: skip


def test_the_first_rank_that_failed_since_the_group_was_formed_is_named() -> None:
    """torchrun itself says 1, whatever happened; a rank that was started again is not why."""
    state = fold(ENDS)
    assert state.failure is None
    state = fold([exited(9.0, 0, 1, node=True)], state)
    assert state.failure is not None
    assert (state.failure.host, state.failure.code) == ("gpu2", -9)


def test_too_few_hosts_are_the_failure_of_the_rank_that_failed() -> None:
    state = fold([*ENDS, ev.StopRequested(9.0, StopReason.TOO_FEW_HOSTS)])
    assert state.failure is not None
    assert state.failure.code == -9


@pytest.mark.parametrize(
    ("text", "least", "most"), [("1:2", 1, 2), ("2:2", 2, 2), ("3", None, 3)]
)  # fmt: skip
def test_how_many_hosts(text: str, least: int | None, most: int) -> None:
    values = jobs.load(f"run: a.py\nnum_nodes: {text}\n", "job.yaml")
    for layers in ({"file": values}, {"flag": {"run": ("a.py",), "num_nodes": text}}):
        job = jobs.make(layers, {})
        assert (job.elastic, job.num_nodes) == (least, most)


@pytest.mark.parametrize("text", ["", "0", "0:2", "2:1", "1:", ":2", "1:2:3", "x", "-1", "1.5"])
def test_what_is_no_number_of_hosts(text: str) -> None:
    with pytest.raises(InputError, match="--nodes: not a number of hosts"):
        jobs.make({"flag": {"run": ("a.py",), "num_nodes": text}}, {})


def test_only_torchrun_is_elastic(launcher: Launcher) -> None:
    launcher.script("")
    ran = launcher.run("--nodes", "1:2", "--framework", "torch", "train.py")
    assert (ran.code, "only torchrun is elastic" in ran.err) == (2, True)
    ran = launcher.run("--nodes", "1:2", "train.py")
    assert (ran.code, "--max-restarts 3" in ran.err) == (2, True)


def test_restarts_that_are_used_up_are_a_failure_of_the_rank(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """torchrun started it twice; its own exit is 1, that of the rank passes through."""
    name = launcher.script("import sys; print('once', flush=True); sys.exit(7)")
    ran = launcher.run("--nodes", "1:1", "--max-restarts", "1", name)
    assert ran.code == 7, ran.err
    assert "lab1 rank 0 exited with 7" in ran.err
    assert ran.log("rank-0.out") == b"once\nonce\n"


# A sum over all ranks in each step; the state goes on from a checkpoint, as rank 0 wrote it.
TRAIN = """
import datetime, os, pathlib, sys, time
import torch, torch.distributed as dist
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "state.pt")
dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=4))
rank, world = dist.get_rank(), dist.get_world_size()
begun = torch.tensor(torch.load(out) if out.exists() else 0)
dist.broadcast(begun, 0)
print(f"begins at {int(begun) > 0} with {world}", flush=True)
for step in range(int(begun), 1_000_000):
    total = torch.ones(1)
    dist.all_reduce(total)
    assert int(total) == world
    if rank == 0:
        torch.save(step, f"{out}.new")
        os.replace(f"{out}.new", out)
    end = torch.tensor(int(world == 1 and step > int(begun) + 20))
    dist.broadcast(end, 0)
    if step == 5:
        print("five steps", flush=True)
    if end:
        break
    time.sleep(0.02)
print("done with", world)
dist.destroy_process_group()
"""


def _events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[labs.Lab]:
    """Two hosts with torch, to be broken."""
    if reason := labs.missing():
        pytest.skip(f"no lab of real hosts here: {reason}")
    with labs.Lab(SPECS[:2], tmp_path / "own", share=[Path(sys.prefix)]) as standing:
        yield standing


def test_training_goes_on_without_a_host_that_lost_its_power(
    pair: labs.Lab, launcher: Launcher
) -> None:
    """From its checkpoint, with the one that is left; the receipt says who came to the end."""
    launcher.inventory.write_text(labs.inventory(pair, sys.executable))
    name = launcher.script(TRAIN)
    process = launcher.start(
        "--nodes", "1:2", "--max-restarts", "3", "--lost-after", "4s", "--grace", "2s", name
    )
    try:
        labs.wait_until(lambda: any(launcher.home.glob("runs/*")), "a folder", 20)
        (folder,) = (launcher.home / "runs").iterdir()
        wait_for(folder / "logs/attempt-0/rank-0.out", b"five steps", process, 60)
        pair.hosts["lab2"].power_cut()
        _, shown = process.communicate(timeout=100)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, shown.decode()
    said = (folder / "logs/attempt-0/rank-0.out").read_text().splitlines()
    assert said[-1] == "done with 1"
    assert "begins at True with 1" in said
    assert "begins at False with 2" in said
    value = json.loads((folder / "receipt.json").read_text())
    assert (value["status"], value["reason"]) == ("succeeded", "finished-on-1-of-2-hosts")
    first, second = value["hosts"]
    assert (first["left"], first["problem"]) == (0, "")
    assert (second["left"], second["problem"]) == (None, "host-unreachable")
    assert value["failure"] is None
    starts = [e for e in _events(folder) if e["event"] == "ProcessStarted" and e["rank"] == 0]
    assert len(starts) >= 2
