"""Open MPI's own mpirun on two hosts that hold no keys for each other."""

from __future__ import annotations

import shutil

import pytest

from support import ROOT
from support import lab as labs
from support.command import Launcher

pytest.importorskip("mpi4py", reason="mpi4py is not installed here")
pytestmark = pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun here")

SCRIPT = """
import os, socket, sys
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
print(f"rank {world.rank}/{world.size} on {socket.gethostname()}: {total}")
assert os.environ["LAUNCHER_HOST"] == socket.gethostname()
if len(sys.argv) > 1 and world.rank == int(sys.argv[1]):
    sys.stdout.flush()
    os._exit(9)
world.barrier()
"""


def test_ranks_on_two_hosts_add_up(launcher: Launcher, clean: labs.Lab) -> None:
    """Each with its own log, as they would be under any other framework."""
    ran = launcher.run(str(ROOT / "examples" / "mpi_sum" / "job.yaml"))
    assert ran.code == 0, ran.out + ran.err
    for rank in range(4):
        host = "lab1" if rank < 2 else "lab2"
        assert ran.log(f"rank-{rank}.out").decode() == f"rank {rank}/4 on {host}: 10\n"
    assert [host["orphans"] for host in ran.receipt["hosts"]] == [0, 0]


def test_a_rank_fails(launcher: Launcher, clean: labs.Lab) -> None:
    """It is named, with its own exit status; nothing of the others is left."""
    ran = launcher.run(
        "--nodes=2",
        "--nproc-per-node=2",
        "--framework=mpi",
        "--grace=1s",
        launcher.script(SCRIPT),
        "2",
    )
    assert ran.code == 9, ran.err
    assert (ran.receipt["failure"]["host"], ran.receipt["failure"]["rank"]) == ("lab2", 2)
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, 0]


def test_a_readmes_line_as_it_stands(launcher: Launcher, clean: labs.Lab) -> None:
    """Hosts of the line are the plan's; the real mpirun gets its other options, ranks its variables."""
    script = """
import os
from mpi4py import MPI
world = MPI.COMM_WORLD
total = world.allreduce(world.rank + 1)
print(total, os.environ["A"], os.environ["OMPI_MCA_btl"])
"""
    line = "mpirun -np 2 -H a:1,b:1 -x A=1 --mca btl tcp,self --bind-to none -N 1 python"
    ran = launcher.run(*line.split(), launcher.script(script))
    assert ran.code == 0, ran.out + ran.err
    assert [ran.log(f"rank-{rank}.out").decode() for rank in range(2)] == ["3 1 tcp,self\n"] * 2
