"""Horovod itself on two hosts whose own names lead to loopback: it trains, fails, and is left alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support import ROOT
from support import lab as labs
from support.command import Launcher, wait_for

horovod = pytest.importorskip("horovod", reason="horovod is not built here: make horovod")
EXTENSIONS = Path(horovod.__file__).parent.glob("torch/mpi_lib*.so")
WITH_MPI = pytest.mark.skipif(
    not any(b"\0libmpi" in file.read_bytes() for file in EXTENSIONS),
    reason="this horovod was built without MPI: install Open MPI and its headers, make horovod",
)
#: Takes as long as all of the others: `make test-frameworks`, but for the case of a rank that fails.
MPI = pytest.param("horovod-mpi", marks=[WITH_MPI, pytest.mark.frameworks])

# Four ranks on two cores: those that wait for a message leave the cores to the others.
POLITE = ("--env", "OMPI_MCA_mpi_yield_when_idle=1")
WORD = "only-for-ranks"
JOB = f"""
num_nodes: 2
grace: 1s
secrets: {{TOKEN: {WORD}}}
run: [own.py, --epochs, "2"]
"""
# The example, after a look at what a rank has been given.
OWN = f"""
import os, runpy, subprocess
host = subprocess.check_output(["hostname"], text=True).strip()
assert os.environ["LAUNCHER_HOST"] == host, os.environ["LAUNCHER_HOST"]
assert os.environ["TOKEN"] == "{WORD}"
interface = {{"lab1": "eth0", "lab2": "enp3s0"}}[host]
own = {{"GLOO_SOCKET_IFNAME", "HOROVOD_GLOO_IFACE", "OMPI_MCA_btl_tcp_if_include"}} & set(os.environ)
assert len(own) == 2 and {{os.environ[name] for name in own}} == {{interface}}, own
assert "/relay" not in os.environ["PATH"], "a rank's ssh is the host's own"
runpy.run_path("train.py", run_name="__main__")
"""


@pytest.fixture
def training(launcher: Launcher, clean: labs.Lab) -> str:
    """A job that trains the example."""
    shutil.copy(ROOT / "examples/horovod_digits/train.py", launcher.work)
    launcher.script(OWN, "own.py")
    (launcher.work / "job.yaml").write_text(JOB)
    return "job.yaml"


@contextmanager
def _arguments(lab: labs.Lab) -> Iterator[set[str]]:
    """All that stands in an argument of a process of a host, as long as this goes on."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.03):
            for name in ("lab1", "lab2"):
                for process in lab.hosts[name].processes():
                    seen.update(process.argv)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        over.set()
        looking.join()


@pytest.mark.parametrize(
    "framework", ["horovod", pytest.param("horovod-direct", marks=pytest.mark.slow), MPI]
)
def test_it_trains(launcher: Launcher, clean: labs.Lab, training: str, framework: str) -> None:
    """Every rank with the same parameters in its own log; no secret in anybody's arguments."""
    with _arguments(clean) as seen:
        ran = launcher.run("--framework", framework, *POLITE, training)
    assert ran.code == 0, ran.out + ran.err
    logs = [ran.log(f"rank-{rank}.out").decode() for rank in range(2)]
    digests = {re.findall(r"sha256 (\w+) equal on all 2 ranks", log)[0] for log in logs}
    assert len(digests) == 1
    for rank, log in enumerate(logs):
        assert f"rank {rank}/2 on lab{rank + 1}:" in log
    assert [output["path"] for output in ran.receipt["outputs"]] == ["model.pt"]
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, 0]
    if framework == "horovod":
        assert any("HOROVOD_RANK=1" in words for words in seen), "we looked while it was started"
    assert not any(WORD in words for words in seen)


# All other ranks are deaf to SIGTERM and would go on for ever.
FAILS = """
import os, pathlib, signal, sys, time
rank, bad, how = int(os.environ["HOROVOD_RANK"]), int(sys.argv[1]), sys.argv[2]
if rank != bad:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready = pathlib.Path("ready"); ready.mkdir(exist_ok=True)
(ready / str(rank)).touch()
while rank == bad and len(list(ready.iterdir())) < 2:
    time.sleep(0.01)
if rank == bad and how == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if rank == bad:
    sys.exit(7)
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("framework", "rank", "how", "code"),
    [("horovod", 2, "exit", 7), ("horovod-direct", 3, "kill", 137)],
)
def test_a_rank_fails(
    launcher: Launcher, clean: labs.Lab, framework: str, rank: int, how: str, code: int
) -> None:
    """It is named with its own exit status, and all others are gone after the grace."""
    ran = launcher.run(
        "--nodes=2",
        "--nproc-per-node=2",
        "--grace=1s",
        f"--framework={framework}",
        launcher.script(FAILS),
        str(rank),
        how,
    )
    receipt = ran.receipt
    assert ran.code == code, ran.err
    assert receipt["failure"]["rank"] == rank
    assert receipt["failure"]["host"] == ("lab1" if rank < 2 else "lab2")
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]
    lines = [json.loads(x) for x in (ran.folder / "events.jsonl").read_text().splitlines()]
    failed = min(e["time"] for e in lines if e["event"] == "ProcessExited" and e["code"])
    assert max(e["time"] for e in lines if e["event"] == "HostEnded") - failed < 1.0 + 14.0, (
        "grace, and a busy machine"
    )


# One of four is gone in the middle; the others wait for it in the network.
OVER_MPI = """
import horovod.torch as hvd, os, sys, torch
hvd.init()
assert hvd.mpi_enabled() and not hvd.gloo_enabled()
assert hvd.local_size() == hvd.cross_size() == 2
print(hvd.rank(), int(hvd.allreduce(torch.tensor(hvd.rank() + 1), op=hvd.Sum)), flush=True)
hvd.barrier()
if hvd.rank() == 2:
    print("bye", file=sys.stderr, flush=True)
    os._exit(7)
hvd.allreduce(torch.zeros(1))
"""


@pytest.mark.slow
@pytest.mark.parametrize("framework", [pytest.param("horovod-mpi", marks=WITH_MPI)])
def test_a_rank_fails_over_mpi(launcher: Launcher, clean: labs.Lab, framework: str) -> None:
    """Four ranks have added up; then one dies: its own status and words are told, none is left."""
    ran = launcher.run(
        "--nodes=2",
        "--nproc-per-node=2",
        "--grace=1s",
        f"--framework={framework}",
        *POLITE,
        launcher.script(OVER_MPI),
    )
    assert ran.code == 7, ran.out + ran.err
    for rank in range(4):
        assert ran.log(f"rank-{rank}.out") == f"{rank} 10\n".encode()
    failure = ran.receipt["failure"]
    told = (failure["host"], failure["rank"], failure["last_lines"])
    assert told == ("lab2", 2, ["bye"]), failure
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, 0]


@pytest.mark.parametrize(
    ("lacks", "says", "hint"),
    [
        (
            "PYTHONPATH: /tmp/plain",
            "needs a horovod that was built with MPI, which /",
            "--with horovod",
        ),
        (
            "PATH: /nowhere",
            "needs Open MPI's mpirun, which this host does not have",
            "--with openmpi",
        ),
    ],
)
def test_what_mpi_needs(
    launcher: Launcher, clean: labs.Lab, lacks: str, says: str, hint: str
) -> None:
    """A host without it is named before anything is started."""
    text = launcher.inventory.read_text()
    launcher.inventory.write_text(text.replace("lab2: {}", f"lab2: {{env: {{{lacks}}}}}"))
    clean.hosts["lab2"].write("/tmp/plain/horovod/__init__.py", b"")
    ran = launcher.run("--hosts", "lab2", "--framework", "horovod-mpi", launcher.script(""))
    assert ran.code == 125
    assert f"error: lab2: framework horovod-mpi {says}" in ran.err
    assert "hint: launcher bootstrap" in ran.err and hint in ran.err
    assert b"ProcessStarted" not in (ran.folder / "events.jsonl").read_bytes()


@pytest.mark.parametrize("framework", ["horovod", MPI])
def test_it_goes_on_without_a_launcher(launcher: Launcher, clean: labs.Lab, framework: str) -> None:
    """The launcher is killed in the middle and every SSH session cut: it trains to its end."""
    for host in clean.hosts.values():
        host.run("rm", "-f", "/tmp/go")
    name = launcher.script(
        "import horovod.torch as hvd, pathlib, time, torch\n"
        "hvd.init()\n"
        "print('ready', flush=True)\n"
        "stop, steps = torch.zeros(1), 0\n"
        "while not hvd.allreduce(stop, op=hvd.Sum):\n"
        "    stop += pathlib.Path('/tmp/go').exists() and hvd.rank() == 1\n"
        "    steps += 1\n"
        "    time.sleep(0.01)\n"
        "print('steps', int(hvd.allreduce(torch.tensor(steps), op=hvd.Sum)) // 2 - steps)\n"
    )
    process = launcher.start("--nodes", "2", "--framework", framework, *POLITE, name)
    labs.wait_until(lambda: any(launcher.home.glob("runs/*/logs/*/rank-1.out")), "a log", 60)
    (folder,) = (launcher.home / "runs").iterdir()
    wait_for(folder / "logs/attempt-0/rank-1.out", b"ready", process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for host in ("lab1", "lab2"):
        clean.hosts[host].kill_sshd_sessions()
    clean.hosts["lab2"].write("/tmp/go", b"")
    attached = launcher.call("attach", "-")
    assert attached.returncode == 0, attached.stderr
    logs = [Path(folder, f"logs/attempt-0/rank-{rank}.out").read_bytes() for rank in range(2)]
    assert logs == [b"ready\nsteps 0\n"] * 2


def test_a_readmes_line_as_it_stands(launcher: Launcher, clean: labs.Lab) -> None:
    """Hosts of the line are the plan's; the real horovodrun gets its other options."""
    script = """
import os, socket
import horovod.torch as hvd
hvd.init()
names = hvd.allgather_object(socket.gethostname())
print(hvd.size(), *names, os.environ["HOROVOD_AUTOTUNE"])
hvd.shutdown()
"""
    line = "horovodrun -np 2 -H host1:1,host2:1 -p 12345 --autotune python"
    ran = launcher.run(*line.split(), launcher.script(script))
    assert ran.code == 0, ran.out + ran.err
    assert [ran.log(f"rank-{n}.out").decode() for n in range(2)] == ["2 lab1 lab2 1\n"] * 2
