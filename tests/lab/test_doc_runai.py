"""Run:ai's "Distributed Training": what a user of it brings along works here, or a hint says what does.

No TensorFlow benchmark is at hand for Horovod, so a script of ours stands in its place, with its
arguments, and adds up a tensor over all ranks with the real Horovod.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.documents import hosts_with
from support.terminal import Terminal

#: The command as it stands there.
HOROVODRUN = """horovodrun -np %RUNAI_MPI_NUM_WORKERS% python scripts/tf_cnn_benchmarks/tf_cnn_benchmarks.py \\
   --model=resnet20 --num_batches=1000000 --data_name cifar10  \\
   --data_dir /cifar10 --batch_size=64 --variable_update=horovod"""
BENCHMARK = """
import argparse, os, time
import horovod.torch as hvd, torch
parser = argparse.ArgumentParser()
for name in ("model", "data_name", "data_dir", "variable_update"):
    parser.add_argument("--" + name, required=True)
parser.add_argument("--num_batches", type=int)
parser.add_argument("--batch_size", type=int)
args = parser.parse_args()
hvd.init()
for step in range(args.num_batches):
    total = hvd.allreduce(torch.tensor([float(hvd.rank() + 1)]), op=hvd.Sum)
    if step == 0:
        host = os.uname().nodename
        print("worker", hvd.rank(), "of", hvd.size(), "on", host, "sum", total.item(), args.data_dir, flush=True)
    time.sleep(0.01)
"""
SCRIPT = "scripts/tf_cnn_benchmarks/tf_cnn_benchmarks.py"
SAID = [f"worker {rank} of 2 on lab{rank + 1} sum 3.0 /cifar10" for rank in (0, 1)]


@pytest.mark.frameworks
def test_the_walkthrough(launcher: Launcher, clean: labs.Lab) -> None:
    """submit-mpi dist --processes=2 -g 1, list, get, logs, delete."""
    pytest.importorskip("horovod", reason="horovod is not built here: make horovod")
    launcher.script(BENCHMARK, SCRIPT)
    command = "\n".join(f"  {line}" for line in HOROVODRUN.splitlines())
    launcher.script(
        f"name: dist\nframework: horovod\ngrace: 1s\nresources: {{gpus: 2}}\nrun: |\n{command}\n",
        "dist.yaml",
    )
    launcher.inventory.write_text(launcher.inventory.read_text().replace("{}", "{gpus: 1}"))
    left = launcher.run("--detach", "dist.yaml")
    assert left.code == 0, left.err
    try:
        (run,) = json.loads(launcher.call("ls", "--json").stdout)
        assert run["run"].startswith("dist-")
        assert run["status"] == "running"
        labs.wait_until(lambda: "worker 1 of 2" in launcher.call("logs", "dist").stdout, "logs", 40)
        shown = json.loads(launcher.call("show", "dist", "--json").stdout)
        ranks = [one for one in shown["processes"] if one["rank"] is not None]
        assert {one["rank"]: one["host"] for one in ranks} == {0: "lab1", 1: "lab2"}
        lines = launcher.call("logs", "dist").stdout.splitlines()
        assert sorted(line.split("│ ")[1] for line in lines if "worker" in line) == SAID
    finally:
        stopped = launcher.call("stop", "dist")
    assert "stopped (by-user)" in stopped.stdout + stopped.stderr
    assert launcher.call("rm", "dist").returncode == 0
    assert json.loads(launcher.call("ls", "--json").stdout) == []


@pytest.fixture
def alike(tmp_path: Path) -> Iterator[Launcher]:
    """The command with two hosts whose interfaces have one name, as horovodrun by hand wants it."""
    with hosts_with("torch", (labs.HostSpec("lab1"), labs.HostSpec("lab2")), tmp_path) as launcher:
        yield launcher


@pytest.mark.frameworks
def test_an_interactive_job(alike: Launcher) -> None:
    """`sh -c "sleep infinity"`, a shell in it, and horovodrun by hand from there."""
    launcher = alike
    pytest.importorskip("horovod", reason="horovod is not built here: make horovod")
    launcher.script(BENCHMARK, SCRIPT)
    flags = ["--name", "dist-int", "--nodes", "2", "--framework", "ssh", "--grace", "1s"]
    left = launcher.run("--detach", *flags, "sh", "-c", "sleep infinity")
    assert left.code == 0, left.err
    try:
        argv = [sys.executable, "-m", "launcher", "shell", "dist-int"]
        with Terminal(argv, launcher.work, launcher.environment()) as terminal:
            terminal.type("ssh lab2 hostname | sed s/^/from-/")
            terminal.expect("from-lab2")
            terminal.expect("# ")  # until then `ssh` reads what is typed, as that of OpenSSH does
            words = HOROVODRUN.replace("%RUNAI_MPI_NUM_WORKERS%", "2 -H $SLOTS --gloo")
            words = words.replace("1000000", "3").replace("\\\n", "")
            words = words.replace(
                "horovodrun", "python $(which horovodrun)", 1
            )  # for any first line of it
            terminal.type(f"{words}; echo over: $?")
            terminal.expect("over: 0\r")
            terminal.type("exit")
            terminal.end()
        seen = terminal.seen.decode()
        assert all(line in seen for line in SAID), seen
    finally:
        launcher.call("stop", "dist-int")
