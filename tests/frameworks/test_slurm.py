"""`launcher export slurm` under a real Slurm of two hosts: what it writes trains, and fails as it should."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support import slurm
from support.command import Launcher
from support.scripts import TRAIN

pytestmark = pytest.mark.timeout(240)

#: The job's folder, which Slurm's users have on a disk that all nodes share.
FOLDER = "/root/job"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[slurm.Slurm, labs.Lab]]:
    """Two nodes of two processors."""
    if reason := labs.missing() or slurm.missing():
        pytest.skip(reason)
    specs = (labs.HostSpec("lab1", own_name=""), labs.HostSpec("lab2", own_name=""))
    share = [Path(sys.prefix)]
    with labs.Lab(specs, tmp_path_factory.mktemp("slurm"), share) as standing:
        yield slurm.Slurm(list(standing.hosts.values()), cpus=2), standing


def batch(
    cluster: tuple[slurm.Slurm, labs.Lab], launcher: Launcher, script: str, job: str
) -> tuple[int, str]:
    """Exit code and output of a job of two nodes, exported by the command and run by Slurm."""
    controller, standing = cluster
    launcher.script(script)
    launcher.script(f"num_nodes: 2\n{job}", "job.yaml")
    done = launcher.call("export", "slurm", "job.yaml", "-o", "job.sbatch")
    assert done.returncode == 0, done.stderr
    for host in standing.hosts.values():
        for name in ("train.py", "job.sbatch"):
            host.write(f"{FOLDER}/{name}", (launcher.work / name).read_bytes())
    return controller.sbatch(FOLDER, "job.sbatch", PYTHON=sys.executable, TOKEN="it's a secret")


@pytest.fixture
def command(tmp_path: Path) -> Launcher:
    """The command in a folder of its own, without any host."""
    work = tmp_path / "work"
    work.mkdir()
    return Launcher(tmp_path / "none", work, tmp_path / "home")


JOB = "resources: {nproc_per_node: 2}\nsecrets: [TOKEN]\nenvs: {LAUNCHER_HOST: somewhere}\n"


@pytest.mark.parametrize("framework", ["torchrun", "torch"])
def test_it_trains(
    cluster: tuple[slurm.Slurm, labs.Lab], command: Launcher, framework: str
) -> None:
    """Two nodes with two ranks each, which find each other, and arguments that arrive as they are."""
    job = f"{JOB}framework: {framework}\nrun: [train.py, \"a 'b\", '$HOME', '{{{{node_rank}}}}']\n"
    code, said = batch(cluster, command, TRAIN, job)
    assert code == 0, said
    lines = sorted(line for line in said.splitlines() if "learned" in line)
    rest = """["it's a secret"]"""
    wanted = [
        f"""of 4 on somewhere learned True ["a 'b", '$HOME', '{node}'] {rest}""" for node in (0, 1)
    ]
    assert lines == sorted(wanted * 2)


FAILS = """
import os, sys, time
if os.environ["RANK"] == "3":
    sys.exit(7)
time.sleep(600)
"""


@pytest.mark.parametrize("framework", ["torch", "env"])
def test_a_rank_that_fails_ends_the_job_with_its_code(
    cluster: tuple[slurm.Slurm, labs.Lab], command: Launcher, framework: str
) -> None:
    script = FAILS if framework == "torch" else FAILS.replace('"3"', '"1"')  # of the node
    run = "train.py" if framework == "torch" else "$PYTHON train.py"
    code, said = batch(cluster, command, script, f"{JOB}framework: {framework}\nrun: {run}\n")
    assert code == 7, said
    words = [process.argv for host in cluster[1].hosts.values() for process in host.processes()]
    assert not [argv for argv in words if "train.py" in argv], "the others are gone"


def test_a_rank_of_torchrun_that_fails(
    cluster: tuple[slurm.Slurm, labs.Lab], command: Launcher
) -> None:
    """torchrun's own exit code is always 1; it says which rank had which."""
    code, said = batch(cluster, command, FAILS, f"{JOB}framework: torchrun\nrun: train.py\n")
    assert code == 1, said
    assert "exitcode  : 7" in said
