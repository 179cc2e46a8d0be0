"""Shared memory of frameworks that run beside each other: each has its own, and none is left."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from support import framework_lab
from support import lab as labs
from support.command import Launcher

pytestmark = pytest.mark.timeout(200)


#: Says what it has mapped of /dev/shm; then rank 3 dies where it is told to, and the others are deaf.
BESIDE = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if sys.argv[1] == "mpi":
    from mpi4py import MPI
    MPI.COMM_WORLD.barrier()
    rank = MPI.COMM_WORLD.rank
else:
    import torch, torch.multiprocessing
    from multiprocessing import shared_memory
    torch.multiprocessing.set_sharing_strategy("file_system")
    batch, mine = torch.ones(1000).share_memory_(), shared_memory.SharedMemory(create=True, size=1000)
    rank = int(os.environ["RANK"])
mapped = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps") if "/dev/shm/" in line}
print(*sorted(mapped), flush=True)
while not (rank == 3 and os.path.exists("/tmp/die-" + sys.argv[2])):
    time.sleep(0.1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_runs_beside_each_other_share_no_memory(
    launcher: Launcher, lab: labs.Lab, clean: labs.Lab
) -> None:
    """Two of Open MPI and one of torch on the same hosts; one fails, two are stopped."""
    of = framework_lab.with_python_of("mpi4py", lab, launcher)
    name = of.script(BESIDE)
    hosts = [lab.hosts["lab1"], lab.hosts["lab2"]]
    for host in hosts:
        host.run("sh", "-c", "rm -rf /dev/shm/* /tmp/die-*; echo data >/dev/shm/mine")
    words = ("--nodes", "2", "--nproc-per-node", "2", "--grace", "1s", "--framework")
    running = [
        of.start(*words, kind, name, kind, number)
        for kind, number in (("mpi", "0"), ("mpi", "1"), ("torch", "2"))
    ]
    try:
        labs.wait_until(
            lambda: (
                any(p.poll() is not None for p in running)
                or sum(len(told) for told in _mapped(of).values()) == 12
            ),
            "all to have memory",
            90,
        )
        told = _mapped(of)
        hosts[1].write("/tmp/die-0", b"")
        for process in running[1:]:
            process.send_signal(signal.SIGINT)
        ends = [process.communicate(timeout=60)[1].decode() for process in running]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()
    assert [process.returncode for process in running] == [137, 130, 130], ends
    assert sorted(told) == ["0", "1", "2"]
    names = {number: set().union(*mapped) for number, mapped in told.items()}
    for number, others in (("0", "12"), ("1", "02"), ("2", "01")):
        assert not any(names[number] & names[other] for other in others)
    kinds = {Path(name).name.split("_")[0] for mapped in names.values() for name in mapped}
    assert kinds == {"vader", "torch", "psm"}
    for host in hosts:
        assert host.run("ls", "/dev/shm").stdout.split() == [b"mine"]


def _mapped(of: Launcher) -> dict[str, list[set[str]]]:
    """By the last argument of a run, what each of its ranks has said."""
    told: dict[str, list[set[str]]] = {}
    for record in (of.home / "runs").glob("*/run.json"):
        job = json.loads(record.read_text())["job"]
        logs = [log.read_text() for log in record.parent.glob("logs/attempt-0/rank-*.out")]
        told[job["run"][-1]] = [set(log.split()) for log in logs if log.endswith("\n")]
    return told
