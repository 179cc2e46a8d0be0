"""torchrun's elastic mode: a host is lost in the middle of training, and the others go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.command import Launcher, wait_for
from support.hosts import SPECS


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


@pytest.mark.parametrize("offset", [-600, 600], ids=["behind", "ahead"])
def test_hosts_whose_clocks_are_apart_form_one_group(
    pair: labs.Lab, launcher: Launcher, offset: int
) -> None:
    """torchrun takes a host for lost by the time of its last sign of life."""
    launcher.inventory.write_text(labs.inventory(pair, sys.executable))
    pair.hosts["lab2"].set_clock(offset)
    name = launcher.script(
        "import os, time\nprint('of', os.environ['WORLD_SIZE'], flush=True)\ntime.sleep(4)\n"
    )
    ran = launcher.run("--nodes", "1:2", "--max-restarts", "1", name)
    assert (ran.code, ran.receipt["reason"]) == (0, "all-ranks-exited-0"), ran.err
    assert [ran.log(f"rank-{rank}.out") for rank in (0, 1)] == [b"of 2\n"] * 2


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
