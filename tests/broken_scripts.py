"""The shortest script of each framework whose processes meet, to be broken.

Not responsible for what is broken, nor for what has to follow from it.
"""

from __future__ import annotations

from dataclasses import dataclass

#: What each begins with. Number 1 dies of 7 once all have met, or never comes. The others are deaf to
#: SIGTERM, and would go on for ever.
BEGINNING = """
import os, signal, sys, time
mode, number = sys.argv[1], (sys.argv + [os.environ.get("HOROVOD_RANK")])[2]
number = number or os.environ["OMPI_COMM_WORLD_RANK"]
print("here", flush=True)

def take():  # another program listens on the port that is ours, before we can
    import json, subprocess
    port = os.environ.get("JAX_COORDINATOR_ADDRESS", ":0").split(":")[1]
    if os.environ.get("DMLC_ROLE") == "scheduler":
        port = os.environ["DMLC_PS_ROOT_PORT"]
    if "TF_CONFIG" in os.environ:
        config = json.loads(os.environ["TF_CONFIG"])
        port = config["cluster"][config["task"]["type"]][config["task"]["index"]].split(":")[1]
        port = port if number == "1" else 0
    elif number == "1":
        port = 0
    code = ("import socket, time; s = socket.socket(); s.bind(('', %s)); s.listen(); "
            "print(1, flush=True); time.sleep(600)" % port)
    subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE).stdout.read(1)

if mode == "absent" and number == "1":
    time.sleep(600)

if mode == "taken" and os.environ["LAUNCHER_ATTEMPT"] == "0":
    take()

def met():
    print("met", flush=True)
    if mode == "die" and number == "1":
        os._exit(7)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "taken":
        sys.exit()

signal.signal(signal.SIGTERM, signal.SIG_IGN)
"""


@dataclass(frozen=True)
class Broken:
    """A framework, in which environment it is, and how it is started.

    ``who`` are the keys of processes: the one whose number is 1, and the lead, with a word of the
    arguments of the process that leads where it is started by ``key`` itself. ``logs`` is how many say
    that they have met.
    """

    environment: str
    script: str
    size: str = "num_nodes: 2"
    number: str = "{{rank}}"
    second: str = "rank-1"
    lead: str = "rank-0"
    word: str = ""
    met: int = 2
    here: int = 2


TORCH = """
import torch.distributed as dist
dist.init_process_group("gloo")
met()
time.sleep(600)
"""

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
    "tensorflow-ps": Broken(
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
    tf.distribute.Server(resolver.cluster_spec(), job_name=kind, task_index=0, protocol="grpc")
met()
time.sleep(600)
""",
        size="roles: {chief: {}, worker: {spread: true}, ps: {envs: {NUMBER: 1}, spread: true}}",
        number="{{index}}",
        second="ps-0",
        lead="chief-0",
        met=3,
        here=3,
    ),
    "mxnet": Broken(
        "mxnet",
        """
import mxnet
store = mxnet.kv.create("dist_sync")
met()
store._barrier()
""",
        size="roles: {scheduler: {}, server: {}, worker: {replicas: 2, spread: true}}",
        number="{{index}}",
        second="worker-1",
        lead="scheduler-0",
        here=4,
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
    "accelerate": Broken(
        "lightning",
        """
import accelerate
accelerate.Accelerator()
met()
time.sleep(600)
""",
        lead="node-0",
        word="accelerate.commands.launch",
    ),
    "deepspeed": Broken(
        "deepspeed",
        """
import deepspeed
deepspeed.init_distributed("gloo")
met()
time.sleep(600)
""",
        lead="node-0",
        word="deepspeed.launcher.launch",
    ),
    "horovod": Broken(
        "horovod",
        """
import horovod.torch as hvd
hvd.init()
met()
time.sleep(600)
""",
        number="",
        lead="node-0",
        word="horovod.runner.launch",
    ),
    "horovod-direct": Broken(
        "horovod",
        """
import horovod.torch as hvd
hvd.init()
met()
time.sleep(600)
""",
        lead="node-0",
    ),
    "mpi": Broken(
        "mpi4py",
        """
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
