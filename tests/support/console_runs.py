"""Runs as this machine would have recorded them, for tests of what shows runs; no host is needed."""

from __future__ import annotations

import base64
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from random import Random

import pytest
from tensorboard.summary import Writer

from launcher.records import codec
from launcher.records import events as ev
from launcher.records.postmortem import LastLine
from launcher.records.receipt import FirstFailure, HostReceipt
from launcher.records.run_folder import RunFolder
from launcher.records.sweep_folder import SweepFolder, TrialRecord, new_record
from launcher.spec.model import Host, Inventory, Job, Layout, Node, Request, Secret
from support.receipts import failed_receipt

#: The value of a secret that no answer may have.
VALUE = "hunter2-the-value-of-a-secret"
STARTED = 1_795_000_000.0
HOSTS = tuple(Host(name=f"gpu{n}", address=f"10.0.0.{n}") for n in (1, 2))
TRACEBACK = (
    "Traceback (most recent call last):",
    '  File "train.py", line 31, in <module>',
    "    loss.backward()",
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
)
DIFF = b"""diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -28,3 +28,3 @@
     for step in range(steps):
-        loss = model(batch)
+        loss = model(batch, mixed=True)
         loss.backward()
"""

#: A picture of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def begin(
    name: str,
    started: float = STARTED,
    *arguments: str,
    project: str | None = None,
    user: str = "ann",
) -> RunFolder:
    """Record a run of four ranks on two hosts that has begun; this process follows it until it is
    closed."""
    job = Job(
        run=("train.py", *arguments),
        name=name,
        framework="torch",
        secrets={"WANDB_API_KEY": Secret(VALUE)},
        envs={"NCCL_DEBUG": VALUE},
    )
    request = Request(job=job, inventory=Inventory(hosts=HOSTS), hosts=HOSTS, project=project)
    folder = RunFolder.create(name, Random(name))
    nodes = tuple(
        Node(host, rank, 2, 2 * rank, gpus=(0, 1), python="python3")
        for rank, host in enumerate(HOSTS)
    )
    folder.write("run.json", codec.describe_run(request, Layout(folder.name, nodes), started))
    for stage, after in (("connect", 0.0), ("sync", 0.4), ("start", 1.1), ("run", 2.0)):
        folder.record(ev.StageStarted(started + after, stage))
    for one in HOSTS:
        folder.record(ev.HostConnected(started + 0.3, one.name, 0.3, "3.11.7", 0.0, user=user))
    for rank in range(4):
        host = HOSTS[rank // 2].name
        folder.record(ev.ProcessStarted(started + 2, host, 0, f"rank-{rank}", rank, 40 + rank))
    return folder


def printed(folder: RunFolder, rank: int, data: bytes) -> None:
    """Add to what a rank has printed."""
    log = folder.path / "logs" / "attempt-0" / f"rank-{rank}.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        file.write(data)


def steps(first: int, last: int, bend: float = 60.0) -> bytes:
    """Return what a training script prints for some steps, coloured as logging libraries do."""
    lines = (
        f"\x1b[32mINFO\x1b[0m step {step} loss={math.exp(-step / bend) + 0.1:.4f} "
        f"lr={1e-3 * (1 - step / 2000):.2e}\n"
        for step in range(first, last)
    )
    return "".join(lines).encode()


def board(folder: RunFolder, last: int, bend: float = 60.0) -> None:
    """Write scalars for TensorBoard to the outputs of a run."""
    writer = Writer(str(folder.outputs / "board"))
    noise = Random(int(bend))
    for step in range(0, last, 2):
        accuracy = 0.93 - math.exp(-step / bend) * 0.8 + noise.uniform(-0.02, 0.02)
        writer.add_scalar("val/accuracy", accuracy, step, wall_time=STARTED + step)
        rate = 1e-3 * (1 + math.cos(step * math.pi / 300)) / 2
        writer.add_scalar("lr", rate, step, wall_time=STARTED + step)
    writer.close()


def measured(folder: RunFolder, seconds: int, bend: float = 60.0) -> None:
    """Write what hosts with two GPUs each measured."""
    noise = Random(int(bend))
    for host in HOSTS:
        lines = []
        for moment in range(0, seconds, 5):
            warm = 1 - math.exp(-moment / bend)
            gpus = {
                str(gpu): [
                    round(max(0.0, 96 * warm - 30 * gpu + noise.uniform(-4, 4)), 1),
                    round(61_000 * warm),
                    round(90 + 250 * warm + noise.uniform(-9, 9), 1),
                    round(34 + 35 * warm),
                ]
                for gpu in range(2)
            }
            line = {
                "time": STARTED + moment,
                "cpu": round(35 + noise.uniform(-8, 8), 1),
                "memory": [round(9e9 + 4e9 * warm), 256 << 30],
                "network": [round(8e7 * warm), round(8e7 * warm)],
                "disk": [round(2e7 * noise.random()), round(3e6 * noise.random())],
                "gpus": gpus,
            }
            lines.append(json.dumps(line) + "\n")
        folder.metrics(host.name).write(0, "".join(lines).encode())


def exited(folder: RunFolder, codes: tuple[int, ...], started: float, seconds: float) -> None:
    """Record that the processes of a run have exited."""
    for rank, code in enumerate(codes):
        host = HOSTS[rank // 2].name
        folder.record(ev.ProcessExited(started + seconds, host, 0, f"rank-{rank}", rank, code))


def succeed(folder: RunFolder, started: float = STARTED, seconds: float = 312.0) -> None:
    """End a run with success."""
    exited(folder, (0, 0, 0, 0), started, seconds)
    reason = "all-ranks-exited-0"
    folder.record(ev.RunEnded(started + seconds, "succeeded", reason, None))
    receipt = failed_receipt(
        run=folder.name,
        status="succeeded",
        reason=reason,
        exit_code=0,
        started=started,
        seconds=seconds,
        stages={"connect": 0.4, "sync": 0.7, "start": 0.9, "run": seconds - 2},
        world_size=4,
        hosts=ended_hosts(0),
        outputs=[
            {"path": "metrics.json", "size": 18, "hosts": ["gpu1"]},
            {"path": "checkpoints/model.pt", "size": 2_400_000, "hosts": ["gpu1", "gpu2"]},
        ],
    )
    folder.write("receipt.json", receipt.to_record())
    folder.close()


def ended_hosts(left: int) -> tuple[HostReceipt, ...]:
    """Return what receipts say of both hosts, with processes left on the second."""
    return tuple(
        HostReceipt(
            host=host.name,
            node_rank=node,
            ranks=(2 * node, 2 * node + 1),
            gpus=(0, 1),
            gpus_used=(0, 1),
            exit_codes={},
            logs_here=1,
            logs_there=1,
            logs_complete=True,
            left=left * node,
            verified="scan",
        )
        for node, host in enumerate(HOSTS)
    )


def fail(folder: RunFolder, started: float = STARTED, seconds: float = 41.0) -> None:
    """End a run with a rank that ran out of memory."""
    exited(folder, (-15, -15, 1, -15), started, seconds)
    folder.record(ev.RunEnded(started + seconds, "failed", "exit-1", "gpu2"))
    failure = FirstFailure(
        host="gpu2",
        key="rank-2",
        rank=2,
        exit_code=1,
        meaning="exit code 1",
        time=started + seconds,
        last_lines=TRACEBACK,
        cause="a GPU has too little memory for this",
        hint="a smaller batch, or gradient checkpointing",
    )
    receipt = failed_receipt(
        run=folder.name,
        started=started,
        seconds=seconds,
        stages={"connect": 0.4, "sync": 0.7, "start": 0.9, "run": seconds - 2},
        world_size=4,
        failure=failure,
        hosts=ended_hosts(1),
        others_said=(LastLine((0, 1, 3), (), "step 39 loss=0.62"),),
    )
    folder.write("receipt.json", receipt.to_record())
    folder.close()


def named(home: Path, start: str) -> str:
    """Return the name of the run of a home that begins like this."""
    return next(path.name for path in (home / "runs").iterdir() if path.name.startswith(start))


@contextmanager
def one_more(home: Path, name: str) -> Iterator[RunFolder]:
    """Record a run in a home while the context lasts, and remove it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_HOME", str(home))
        folder = begin(name)
    try:
        yield folder
    finally:
        if not (folder.path / "receipt.json").exists():  # it was closed with it
            folder.close()
        shutil.rmtree(folder.path)


def several() -> RunFolder:
    """Record a failed run, one that succeeded, and a running one, which is returned."""
    failed = begin("night", STARTED, "--batch", "512", project="vision", user="bob")
    for rank in range(4):
        printed(failed, rank, steps(0, 40))
    printed(failed, 2, "\n".join(TRACEBACK).encode() + b"\n")
    fail(failed)
    done = begin("baseline", STARTED + 3600, "--batch", "64", "--lr", "0.001")
    for rank in range(4):
        printed(done, rank, steps(0, 300, 60.0 - 3 * rank))
    board(done, 300)
    (done.outputs / "checkpoints").mkdir(parents=True)
    (done.outputs / "checkpoints" / "model.pt").write_bytes(bytes(2_400_000))
    (done.outputs / "metrics.json").write_text(json.dumps({"accuracy": 0.93}))
    (done.outputs / "history.csv").write_text('epoch,"loss, mean"\n1,"0.9 ""rough"""\n2,0.4\n')
    (done.outputs / "report.html").write_text("<script>document.title = 'gone'</script>")
    (done.outputs / "curve.png").write_bytes(base64.b64decode(PIXEL))
    (done.outputs / "broken.json").write_text('{"loss": ')
    done.write(
        "code.json",
        {"folder": "/home/ann/vit", "commit": "4f1c" * 10, "branch": "main", "dirty": True},
    )
    done.write_bytes("code.diff", DIFF)
    succeed(done, STARTED + 3600)
    running = begin("wider-lr", STARTED + 7200, "--batch", "64", "--lr", "0.003")
    sweep((done.name, failed.name, running.name))
    for rank in range(4):
        printed(running, rank, steps(0, 120, 40.0 - 3 * rank))
    board(running, 120, 40.0)
    measured(running, 120, 40.0)
    return running


def sweep(runs: tuple[str, str, str]) -> SweepFolder:
    """Record a sweep of six trials. Of these, the first two and the last one, which runs, have these runs."""
    record = new_record(("train.py",), 8, ("lr", "batch", "optimizer"), "acc", "max")
    folder = SweepFolder.create("lr", record)
    for number, (rate, batch) in enumerate(product(("0.1", "0.01", "0.001"), ("32", "64"))):
        params = {"lr": rate, "batch": batch, "optimizer": ("adam", "sgd")[number % 2]}
        value = 0.9 - abs(number - 3) * 0.05
        run = {0: runs[0], 1: runs[1], 5: runs[2]}.get(number, f"lr-t{number}")
        status, seconds = ("succeeded", 60.0 + number) if number < 5 else ("running", None)
        folder.note(
            TrialRecord(
                id=f"t{number}",
                params=params,
                status=status,
                run=run,
                hosts=("gpu1",),
                value=value if seconds else None,
                started=STARTED,
                seconds=seconds,
            )
        )
    return folder
