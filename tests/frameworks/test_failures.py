"""How each framework fails, for real: a rank dies, the lead dies, a peer never comes, a port is taken.

The processes are deaf to SIGTERM in all of these. Which framework a case is left out for has its reason
beside it: something else runs it for real, or it is the same case.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from support import ROOT, framework_lab, journals
from support import lab as labs
from support.broken_scripts import BEGINNING, BROKEN
from support.command import Launcher, Ran

pytestmark = pytest.mark.timeout(300)


GRACE = 2.0
#: Seconds that a busy machine may need besides what is promised.
LOAD = 12.0


def each(*names: str) -> pytest.MarkDecorator:
    """A test of each of these, with the command for its environment."""
    cases = [(BROKEN[name].environment, name) for name in names]
    return pytest.mark.parametrize(("of", "name"), cases, indirect=["of"], ids=names)


def job_file(of: Launcher, name: str, mode: str) -> str:
    """Writes a job that breaks in this way; returns its name."""
    broken = BROKEN[name]
    of.script(BEGINNING + broken.script)
    lines = (
        f"framework: {name.split()[0]}",
        broken.size,
        f"run: train.py {mode} {broken.number}",
        f"grace: {GRACE}",
    )
    (of.work / "job.yaml").write_text("\n".join(lines) + "\n")
    return "job.yaml"


def events_of(of: Launcher) -> list[dict[str, Any]]:
    records = (of.home / "runs").glob("*/events.jsonl")
    return [event for record in records for event in journals.lines(record.read_bytes())]


def all_gone(receipt: dict[str, Any], since: float) -> None:
    """Within the grace after what has ended the run, with nothing left and no byte of a log lost."""
    ended = receipt["started"] + receipt["seconds"]
    assert ended - since < 2 + GRACE + LOAD
    assert len(receipt["hosts"]) == 2
    assert all(host["left"] == 0 and host["logs_complete"] for host in receipt["hosts"])


# horovod, horovod-direct, mpi: test_horovod.py and test_mpi.py; torch and torchrun: test_failures.py.
@each("tensorflow", "mxnet", "jax", "lightning", "accelerate", "deepspeed")
def test_one_dies_and_the_others_are_deaf(of: Launcher, name: str) -> None:
    """It is named with its own exit status, also where another program has started it."""
    ran = of.run(job_file(of, name, "die"), timeout=200)
    failure = ran.receipt["failure"]
    assert (ran.code, ran.receipt["reason"]) == (7, "exit-7"), ran.err
    assert (failure["host"], failure["key"]) == ("lab2", BROKEN[name].second)
    all_gone(ran.receipt, failure["time"])


# lightning: its rank 0 is nothing else than its rank 1.
@each(
    "tensorflow",
    "tensorflow ps",
    "mxnet",
    "jax",
    "accelerate",
    "deepspeed",
    "horovod",
    "horovod-direct",
    "mpi",
)
def test_the_lead_dies(of: Launcher, lab: labs.Lab, name: str) -> None:
    """Rank 0, the chief, the scheduler, or the framework's own launcher is killed once all have met."""
    process = of.start(job_file(of, name, "wait"))
    try:
        labs.wait_until(
            lambda: process.poll() is not None or _met(of) == BROKEN[name].met, "all to meet", 120
        )
        lab.hosts["lab1"].run("kill", "-9", str(_lead(of, lab, name)))
        err = process.communicate(timeout=60)[1].decode()
    finally:
        _end(process)
    receipt = Ran(process.returncode, "", err, of.home).receipt
    assert receipt["status"] == "failed", err
    if name != "mpi":  # its ranks notice at once, and one of them is the first that is seen to end
        assert process.returncode == 137, err
        failure = (receipt["failure"]["host"], receipt["failure"]["key"])
        assert failure == ("lab1", BROKEN[name].lead)
    all_gone(receipt, receipt["failure"]["time"])


def _met(of: Launcher) -> int:
    logs = (of.home / "runs").glob("*/logs/attempt-0/*.out")
    return sum(b"met\n" in log.read_bytes() for log in logs)


def _lead(of: Launcher, lab: labs.Lab, name: str) -> int:
    """Its pid on lab1."""
    broken = BROKEN[name]
    if broken.word:
        processes = lab.hosts["lab1"].processes()
        return next(p.pid for p in processes if broken.word in p.argv and "head" not in p.argv)
    started = (e for e in events_of(of) if e["event"] == "ProcessStarted")
    return next(int(e["pid"]) for e in started if e["key"] == broken.lead)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


# lightning, deepspeed: they wait in torch, as under accelerate. horovod: as horovod-direct.
@each("tensorflow", "mxnet", "jax", "accelerate", "horovod-direct", "mpi")
def test_a_peer_never_comes(of: Launcher, name: str) -> None:
    """MXNet and Open MPI would wait for ever, JAX for five minutes, torch for half an hour. A stall is
    told with who is missing, and ends the run where that is wanted."""
    words = ("--stall-timeout", "4s", "--on-stall", "stop", job_file(of, name, "absent"))
    ran = of.run(*words, timeout=120)
    assert (ran.code, ran.receipt["reason"]) == (125, "stalled"), ran.err
    who = "worker-1" if name == "mxnet" else "rank 1"
    assert f"lab2 {who} is behind" in ran.receipt["error"]
    (told,) = (e for e in events_of(of) if e["event"] == "RunStalled")
    all_gone(ran.receipt, told["time"])


@each("tensorflow", "mxnet", "jax")
def test_a_port_that_is_taken_in_between_is_replaced(of: Launcher, name: str) -> None:
    """TensorFlow's on the second host, by one of its tasks; the others' is the meeting point."""
    ran = of.run(job_file(of, name, "taken"), timeout=120)
    assert ran.code == 0, ran.err
    assert "restarting after the port was taken: attempt 1" in ran.err
    logs = [log.read_bytes() for log in ran.folder.glob("logs/attempt-1/*.out")]
    assert sum(b"met\n" in log for log in logs) == BROKEN[name].met


def test_two_frameworks_on_the_same_hosts_do_not_meet(
    launcher: Launcher, lab: labs.Lab, clean: labs.Lab
) -> None:
    """TensorFlow's parameter servers and MXNet's at once: each trains with its own."""
    running, homes = [], []
    for environment, example in (("tensorflow", "tensorflow_ps"), ("mxnet", "mxnet_gluon")):
        of = framework_lab.with_python_of(environment, lab, launcher)
        job = str(ROOT / "examples" / example / "job.yaml")
        running.append(of.start(job))
        homes.append(of.home)
    ends = [process.communicate(timeout=240)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    said = {
        json.loads((folder / "run.json").read_text())["job"]["framework"]: _all_logs(folder)
        for folder in (homes[0] / "runs").iterdir()
    }
    assert b"after 20 steps on 2 workers: [2. 1.]" in said["tensorflow"]
    assert all(b"worker %d of 2: weight 2.0 bias 1.0" % rank in said["mxnet"] for rank in range(2))


def _all_logs(folder: Path) -> bytes:
    return b"".join(log.read_bytes() for log in sorted(folder.glob("logs/attempt-0/*.out")))
