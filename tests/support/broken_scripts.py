"""The shortest script of each framework whose processes meet, and how to break it."""

from __future__ import annotations

from dataclasses import dataclass

#: What each starts with: ``train.py MODE NUMBER``. With "die", number 1 exits with 7 once all have met;
#: with "absent" it never comes; with "taken" another program has its port before it listens. All others
#: ignore SIGTERM, and would run for ever.
BEGINNING = """
import json, os, signal, subprocess, sys, time
mode = sys.argv[1]
number = sys.argv[2] if len(sys.argv) > 2 else (
    os.environ.get("HOROVOD_RANK") or os.environ["OMPI_COMM_WORLD_RANK"])
print("here", flush=True)

def own_port():
    if "TF_CONFIG" in os.environ and number == "1":
        config = json.loads(os.environ["TF_CONFIG"])
        task = config["task"]
        return config["cluster"][task["type"]][task["index"]].split(":")[1]
    if os.environ.get("JAX_PROCESS_ID") == "0":
        return os.environ["JAX_COORDINATOR_ADDRESS"].split(":")[1]
    if os.environ.get("DMLC_ROLE") == "scheduler":
        return os.environ["DMLC_PS_ROOT_PORT"]

LISTEN = "import socket, time; s = socket.socket(); s.bind(('', {})); s.listen(); print(1, flush=True); time.sleep(600)"
if mode == "absent" and number == "1":
    time.sleep(600)
while mode == "absent" and time.process_time() < 2:
    pass  # the others load what they need: on a fast machine importing a framework alone is too little to tell
if mode == "taken" and os.environ["LAUNCHER_ATTEMPT"] == "0" and own_port():
    other = [sys.executable, "-c", LISTEN.format(own_port())]
    subprocess.Popen(other, stdout=subprocess.PIPE).stdout.read(1)

def met():
    print("met", flush=True)
    if mode == "die" and number == "1":
        os._exit(7)
    if mode == "taken":
        sys.exit()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)

signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


@dataclass(frozen=True)
class Broken:
    """A framework's script, in which environment it runs, and the lines of its job that say how many.

    ``number`` is the token by which a process finds its number; "" where it has to look into its
    environment. ``second`` is the key of number 1. ``lead`` is that of the process that leads;
    where ours starts the one that does, ``word`` is among the arguments of that one. So many say that
    they have ``met``.
    """

    environment: str
    script: str
    size: str = "num_nodes: 2"
    number: str = "{{rank}}"
    second: str = "rank-1"
    lead: str = "rank-0"
    word: str = ""
    met: int = 2


TORCH = """
import torch.distributed as dist
dist.init_process_group("gloo")
met()
time.sleep(600)
"""
HOROVOD = """
import horovod.torch as hvd
hvd.init()
met()
time.sleep(600)
"""

#: By the name of the framework; what follows a blank is another way to use it.
BROKEN = {
    "tensorflow": Broken(
        "tensorflow",
        """
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
    ),
    "tensorflow ps": Broken(
        "tensorflow",
        """
import json
import tensorflow as tf
kind = json.loads(os.environ["TF_CONFIG"])["task"]["type"]
resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if kind == "chief":
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    tf.distribute.coordinator.ClusterCoordinator(strategy)
else:
    tf.distribute.Server(resolver.cluster_spec(), job_name=kind,
                         task_index=int(number), protocol="grpc")
met()
time.sleep(600)
""",
        size="roles: {chief: {}, worker: {}, ps: {replicas: 2, spread: true}}",
        number="{{index}}",
        second="ps-1",
        lead="chief-0",
        met=4,
    ),
    "mxnet": Broken(
        "mxnet",
        """
import mxnet
store = mxnet.kv.create("dist_sync")
met()
store._barrier()
time.sleep(600)  # where both workers have come, the barrier is no wait
""",
        size="roles: {scheduler: {}, server: {}, worker: {replicas: 2, spread: true}}",
        number="{{index}}",
        second="worker-1",
        lead="scheduler-0",
    ),
    "jax": Broken(
        "jax",
        """
import jax
jax.distributed.initialize(num_processes=int(os.environ["JAX_NUM_PROCESSES"]),
                           process_id=int(os.environ["JAX_PROCESS_ID"]))
met()
time.sleep(600)
""",
    ),
    "lightning": Broken(
        "lightning",
        """
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
    ),
    # What these two start is torch: their own packages take seconds to import.
    "accelerate": Broken("lightning", TORCH, lead="node-0", word="accelerate.commands.launch"),
    "deepspeed": Broken("deepspeed", TORCH, lead="node-0", word="deepspeed.launcher.launch"),
    "horovod": Broken("horovod", HOROVOD, number="", lead="node-0", word="horovod.runner.launch"),
    "horovod-direct": Broken("horovod", HOROVOD, lead="node-0"),
    "mpi": Broken(
        "mpi4py",
        """
import torch
from mpi4py import MPI
met()
MPI.COMM_WORLD.barrier()
time.sleep(600)
""",
        number="",
        lead="node-0",
        word="mpirun",
    ),
}
