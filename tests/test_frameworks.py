"""Frameworks other than torch, each for real in an environment of its own: `make test-frameworks`.

The examples are what is run. Each framework is broken once as well: a rank that dies, a peer that
never comes, SIGTERM that is ignored.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import environments
import lab as labs
import pytest
from conftest import ROOT, Launcher, Ran

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]

SPECS = (
    labs.HostSpec("lab1", interface="eth0", own_name="127.0.1.1"),
    labs.HostSpec("lab2", interface="enp3s0", own_name="127.0.0.1"),
)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Two real hosts that share the environments there are."""
    reason = labs.missing()
    if reason:
        pytest.skip(f"no lab of real hosts here: {reason}")
    folders = [environments.folder(name) for name in environments.PINS]
    share = [folder for folder in folders if folder.exists()] + [Path(sys.prefix)]
    with labs.Lab(SPECS, tmp_path_factory.mktemp("lab"), share=share) as standing:
        yield standing


@pytest.fixture
def of(
    lab: labs.Lab, launcher: Launcher, clean: labs.Lab, request: pytest.FixtureRequest
) -> Launcher:
    """The command, with an inventory whose Python has the test's framework."""
    name = request.param
    if reason := environments.missing(name):
        pytest.skip(reason)
    python = environments.folder(name) / "bin" / "python"
    inventory = launcher.inventory.with_name(f"{name}.yaml")
    inventory.write_text(labs.inventory(lab, str(python)))
    return replace(launcher, inventory=inventory)


def framework(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("of", [name], indirect=True)


def example(of: Launcher, name: str, *flags: str) -> Ran:
    """An example of the project, as it is."""
    ran = of.run(*flags, str(ROOT / "examples" / name / "job.yaml"), timeout=240)
    assert ran.code == 0, ran.err
    assert len(ran.receipt["hosts"]) == 2
    assert all(host["logs_complete"] and host["left"] == 0 for host in ran.receipt["hosts"])
    return ran


def said(ran: Ran, *logs: str) -> str:
    return b"".join(ran.log(f"{log}.out") for log in logs).decode()


# -- what works


@framework("tensorflow")
def test_parameter_servers(of: Launcher) -> None:
    ran = example(of, "tensorflow_ps")
    assert ran.receipt["reason"] == "lead-exited-0"
    assert "after 20 steps on 2 workers: [2. 1.]" in said(ran, "chief-0")
    assert "serves" in said(ran, "worker-0") and "serves" in said(ran, "worker-1")
    assert [output["path"] for output in ran.receipt["outputs"]] == ["fitted.npy"]


@framework("tensorflow")
def test_mirrored_workers(of: Launcher) -> None:
    ran = example(of, "tensorflow_mirrored")
    words = [said(ran, f"rank-{rank}") for rank in (0, 1)]
    assert ["worker 0 of 2: [2. 1.]" in words[0], "worker 1 of 2: [2. 1.]" in words[1]] == [
        True
    ] * 2


@framework("mxnet")
def test_gluon_over_dist_sync(of: Launcher) -> None:
    ran = example(of, "mxnet_gluon")
    assert ran.receipt["reason"] == "all-ranks-exited-0", "scheduler and server end by themselves"
    lines = said(ran, "worker-0", "worker-1").split("\n")
    assert sorted(filter(None, lines)) == [
        f"worker {rank} of 2: weight 2.0 bias 1.0" for rank in (0, 1)
    ]


@framework("jax")
def test_psum_over_hosts(of: Launcher) -> None:
    ran = example(of, "jax_psum")
    for rank in range(4):
        assert f"process {rank} of 4: the sum is 10" in said(ran, f"rank-{rank}")


@framework("lightning")
@pytest.mark.parametrize("flags", [(), ("--framework", "torchrun")], ids=["lightning", "torchrun"])
def test_lightning(of: Launcher, flags: tuple[str, ...]) -> None:
    ran = example(of, "lightning_toy", *flags)
    for rank in range(4):
        assert f"rank {rank} of 4: loss 0.0" in said(ran, f"rank-{rank}")
    paths = [output["path"] for output in ran.receipt["outputs"]]
    assert "checkpoints/last.ckpt" in paths
    assert any(Path(path).name.startswith("events.out.tfevents") for path in paths)


@framework("lightning")  # accelerate is in the same environment
def test_accelerate(of: Launcher) -> None:
    ran = example(of, "accelerate_toy")
    for rank in range(4):
        assert f"rank {rank} of 4: weight 2.0 bias 1.0" in said(ran, f"rank-{rank}")


@framework("deepspeed")
def test_deepspeed(of: Launcher) -> None:
    ran = example(of, "deepspeed_toy")
    for rank in range(4):
        assert f"rank {rank} of 4: weight 2.0 bias 1.0" in said(ran, f"rank-{rank}")


@framework("tensorflow")
def test_two_runs_on_the_same_hosts_do_not_meet(of: Launcher) -> None:
    """At once, and neither talks to the other's parameter servers."""
    jobs = [str(ROOT / "examples" / name / "job.yaml") for name in ("tensorflow_ps",) * 2]
    running = [of.start("--name", f"run{number}", job) for number, job in enumerate(jobs)]
    ends = [process.communicate(timeout=240)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], ends
    for folder in (of.home / "runs").iterdir():
        log = (folder / "logs" / "attempt-0" / "chief-0.out").read_bytes()
        assert b"after 20 steps on 2 workers: [2. 1.]" in log


# -- what breaks


#: Rank 1 dies of 7 once all have met, or never comes. The others are deaf to SIGTERM.
BREAKS = """
import os, signal, sys, time
mode, rank = sys.argv[1], int(sys.argv[2])
print("here", flush=True)
if mode == "absent" and rank == 1:
    time.sleep(600)

def met():
    print("met", flush=True)
    if rank == 1:
        os._exit(7)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""
BROKEN = {
    "tensorflow": """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
met()
@tf.function
def add():
    return strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("sum", 1.0))
while True:
    try:
        add()
    except tf.errors.OpError as error:
        print(type(error).__name__, flush=True)
    time.sleep(0.1)
""",
    "mxnet": """
import mxnet
store = mxnet.kv.create("dist_sync")
met()
store._barrier()
""",
    "jax": """
import jax
jax.distributed.initialize(num_processes=int(os.environ["JAX_NUM_PROCESSES"]), process_id=rank)
met()
time.sleep(600)
""",
    "lightning": """
import lightning, torch
class Line(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.line = torch.nn.Linear(1, 1)
    def on_train_start(self):
        met()
    def training_step(self, batch, number):
        return self.line(batch[0]).sum()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
data = torch.utils.data.TensorDataset(torch.ones(64, 1))
trainer = lightning.Trainer(accelerator="cpu", strategy="ddp", devices=1, num_nodes=2, logger=False,
                            max_epochs=10**9, enable_progress_bar=False, enable_checkpointing=False)
trainer.fit(Line(), torch.utils.data.DataLoader(data))
""",
}
MXNET_ROLES = "roles: {scheduler: {}, server: {}, worker: {replicas: 2, spread: true}}"
GRACE = 2.0


def broken(of: Launcher, name: str, mode: str) -> list[str]:
    """Writes a job that breaks; returns the flags that run it."""
    of.script(BREAKS + BROKEN[name])
    who = "{{index}}" if name == "mxnet" else "{{rank}}"
    size = MXNET_ROLES if name == "mxnet" else "num_nodes: 2"
    text = f"framework: {name}\n{size}\nrun: train.py {mode} {who}\ngrace: {GRACE}\n"
    (of.work / "job.yaml").write_text(text)
    return ["job.yaml"]


EVERY = pytest.mark.parametrize(
    ("of", "name"), [(name, name) for name in BROKEN], indirect=["of"], ids=list(BROKEN)
)


@EVERY
def test_one_dies_and_the_others_are_deaf(of: Launcher, name: str) -> None:
    ran = of.run(*broken(of, name, "die"), timeout=200)
    receipt = ran.receipt
    assert (ran.code, receipt["reason"]) == (7, "exit-7"), ran.err
    assert (receipt["failure"]["host"], receipt["failure"]["key"]) == (
        "lab2",
        "worker-1" if name == "mxnet" else "rank-1",
    )
    ended = receipt["started"] + receipt["seconds"]
    assert ended - receipt["failure"]["time"] < 2 + GRACE + 4, "2 s, the grace, and some load"
    assert all(host["left"] == 0 and host["logs_complete"] for host in receipt["hosts"])


@EVERY
def test_a_peer_that_never_comes_and_a_user_who_gives_up(of: Launcher, name: str) -> None:
    process = of.start(*broken(of, name, "absent"))
    try:
        labs.wait_until(lambda: _came(of) >= 2, "all processes", 60)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=GRACE + 15)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    (folder,) = (of.home / "runs").iterdir()
    receipt = Ran(130, "", "", of.home).receipt
    assert (receipt["status"], receipt["failure"]) == ("stopped", None), folder
    assert all(host["left"] == 0 and host["logs_complete"] for host in receipt["hosts"])


def _came(of: Launcher) -> int:
    logs = (of.home / "runs").glob("*/logs/attempt-0/*.out")
    return sum(b"here" in log.read_bytes() for log in logs)
