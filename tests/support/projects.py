"""Public projects as their README starts them: a table, and a shell script that starts one by hand.

Each is a package, or the example that its documentation has for it; none is changed, but examples train
for some seconds. It knows nothing of launcher or pytest. `tests/projects` runs the table, and
`benchmarks/projects.py` measures it.
"""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from support.lab import Lab, LabHost

#: Where the code is on each host, below the home of the user.
FOLDER = "by-hand"
PORT = 29555
#: A variable of all that is started by hand.
MARK = "STARTED_BY_HAND"
TORCHRUN = (
    "torchrun --nnodes 2 --nproc-per-node 1 --node-rank {rank}"
    " --master-addr {addr} --master-port {port}"
)
#: Without these, hosts whose own name is loopback do not meet by c10d.
ON_LOOPBACK = (
    "PET_LOCAL_ADDR={own} PET_RDZV_CONF=is_host=$([ {rank} = 0 ] && echo true || echo false)"
)
MPIRUN = (
    "mpirun --allow-run-as-root -np 2 -H {addr},{other} -x PATH"
    " --mca oob_tcp_if_include {addr}/24 --mca btl_tcp_if_include {addr}/24"
)
ACCELERATE = (
    "accelerate launch --num_machines 2 --num_processes 2 --machine_rank {rank}"
    " --main_process_ip {addr} --main_process_port {port}"
)


@dataclass(frozen=True)
class Project:
    """A project: what its user types here, what they would type on each host, and what it says when it
    has worked. Where ``alone``, the first host starts everything: it needs `introduce`. Where it ``aborts``,
    a package that nobody changes leaves its model to the end of Python, where a thread of gloo aborts some
    starts and hangs others, also by hand (pytorch/pytorch#190489)."""

    name: str
    run: str
    by_hand: str
    says: str
    files: Mapping[str, str] = field(default_factory=dict)
    made_by: str = ""
    output: str = ""
    python: str = "projects"
    alone: bool = False
    aborts: bool = False

    def __str__(self) -> str:
        return self.name

    def words(self, python: Path) -> list[str]:
        """Return what its user types behind `launcher run` and `flags`."""
        return shlex.split(self.run.format(env=python.parent.parent))

    @property
    def flags(self) -> tuple[str, ...]:
        """What stands between ``launcher run`` and `run`."""
        output = ("--output", self.output) if self.output else ()
        return ("--nodes", "2", "-e", "HF_HUB_OFFLINE=1", *output)


#: Scripts drop their model before Python ends: a thread of gloo else aborts it now and then.
LIGHTNING = """
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

trainer = Trainer(accelerator="cpu", devices=1, num_nodes=2, max_epochs=30, logger=False)
trainer.fit(BoringModel())
print("trained by", trainer.world_size, flush=True)
torch.distributed.destroy_process_group()
"""
IGNITE = """
import gc
import ignite.distributed as idist
import torch

def training(local_rank, config):
    model = idist.auto_model(torch.nn.Linear(8, 1))
    optimizer = idist.auto_optim(torch.optim.SGD(model.parameters(), lr=0.01))
    for _ in range(1500):
        optimizer.zero_grad()
        model(torch.ones(4, 8)).pow(2).mean().backward()
        optimizer.step()
    print("trained by", idist.get_world_size(), idist.all_reduce(idist.get_rank() + 1), flush=True)

with idist.Parallel(backend="gloo") as parallel:
    parallel.run(training, {})
    gc.collect()
"""
TRAINER = """
import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

class Data(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, i):
        return {"input_ids": torch.arange(8) + i, "labels": torch.tensor(i % 2)}

config = BertConfig(vocab_size=99, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                    intermediate_size=16)
arguments = TrainingArguments("out", use_cpu=True, num_train_epochs=8, report_to="none")
trainer = Trainer(BertForSequenceClassification(config), arguments, train_dataset=Data())
trainer.train()
trainer.save_model()
print("trained by", arguments.world_size, flush=True)
torch.distributed.destroy_process_group()
"""
DASK = """
import os, sys
from dask.distributed import Client

client = Client(sys.argv[1] if len(sys.argv) > 1 else os.environ["DASK_SCHEDULER_ADDRESS"])
client.wait_for_workers(2)
found = client.gather(client.map(lambda n: sum(i * i for i in range(n)), range(1_000_000, 1_000_060)))
print("summed by", len(client.scheduler_info()["workers"]), len(found), flush=True)
client.shutdown()
"""
DASK_BY_HAND = (
    "if [ {rank} = 0 ]; then dask scheduler --host {addr} --port {port} & fi;"
    " dask worker tcp://{addr}:{port} --nworkers 1 --nthreads 1 & "
    " if [ {rank} = 0 ]; then python client.py tcp://{addr}:{port}; fi; wait || true"
)
HOROVOD = """
import horovod.torch as hvd
import torch

hvd.init()
model = torch.nn.Linear(8, 1)
optimizer = hvd.DistributedOptimizer(
    torch.optim.SGD(model.parameters(), lr=0.01 * hvd.size()), named_parameters=model.named_parameters()
)
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
for _ in range(400):
    optimizer.zero_grad()
    model(torch.ones(4, 8)).sum().backward()
    optimizer.step()
print("trained by", hvd.size(), flush=True)
"""
FABRIC = """
import gc
import torch
from lightning.fabric import Fabric

fabric = Fabric()
model = torch.nn.Linear(8, 1)
model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
for _ in range(1000):
    optimizer.zero_grad()
    fabric.backward(model(torch.ones(4, 8)).pow(2).mean())
    optimizer.step()
print("trained by", fabric.world_size, int(fabric.all_reduce(torch.tensor(1.0), reduce_op="sum")), flush=True)
del fabric, model, optimizer
gc.collect()
torch.distributed.destroy_process_group()
"""
JAX = """
import sys
import jax

jax.distributed.initialize(
    coordinator_address=sys.argv[1], num_processes=int(sys.argv[2]), process_id=int(sys.argv[3])
)
x = jax.numpy.ones((512, 512))
for _ in range(500):
    x = jax.numpy.tanh(x @ x).block_until_ready()
print("computed by", jax.process_count(), jax.device_count(), flush=True)
"""
TENSORFLOW = """
import tensorflow as tf

strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    weight = tf.Variable(1.0)

@tf.function
def step():
    def replica():
        weight.assign_sub(0.1)
        return tf.distribute.get_replica_context().all_reduce("sum", weight.read_value())
    return strategy.run(replica)

first = float(step())
for _ in range(1000):
    step()
print("trained by", strategy.num_replicas_in_sync, round(first, 2), flush=True)
"""
TF_CONFIG = (
    """TF_CONFIG='{{"cluster": {{"worker": ["{addr}:{port}", "{other}:{port}"]}},"""
    """ "task": {{"type": "worker", "index": {rank}}}}}'"""
)
DEEPSPEED = """
import argparse, gc, os
import deepspeed, torch

parser = deepspeed.add_config_arguments(argparse.ArgumentParser())
parser.add_argument("--local_rank", type=int, default=-1)
arguments = parser.parse_args()
model = torch.nn.Linear(8, 1)
engine, *_ = deepspeed.initialize(args=arguments, model=model, model_parameters=model.parameters())
for _ in range(500):
    engine.backward(engine(torch.ones(4, 8)).pow(2).mean())
    engine.step()
said = f"trained by {torch.distributed.get_world_size()} {engine.zero_optimization_stage()}\\n"
os.write(1, said.encode())  # at once: by hand, two ranks share a pipe
del model, engine
gc.collect()
torch.distributed.destroy_process_group()
"""
ZERO = """{"train_micro_batch_size_per_gpu": 4, "optimizer": {"type": "SGD", "params": {"lr": 0.1}},
 "zero_optimization": {"stage": 1}, "zero_allow_untested_optimizer": true}"""
RPC = """
import argparse, os
import torch
import torch.distributed.rpc as rpc

parser = argparse.ArgumentParser()
for name in ("world_size", "rank", "master_addr", "master_port"):
    parser.add_argument("--" + name)
args = parser.parse_args()
os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = args.master_addr, args.master_port
rpc.init_rpc("worker" + args.rank, rank=int(args.rank), world_size=int(args.world_size))
if args.rank == "0":
    for step in range(1500):
        found = rpc.rpc_sync("worker1", torch.add, args=(torch.ones(2), step))
    print("added by worker1", found.tolist(), flush=True)
rpc.shutdown()
"""
DDP = """
import gc
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
model = DistributedDataParallel(torch.nn.Linear(8, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(1500):
    optimizer.zero_grad()
    model(torch.ones(4, 8)).pow(2).mean().backward()
    optimizer.step()
print("trained by", dist.get_world_size(), flush=True)
del model, optimizer
gc.collect()
dist.destroy_process_group()
"""
C10D = """
torchrun --nnodes=$NUM_NODES --nproc_per_node=1 --rdzv_id=17 --rdzv_backend=c10d \\
  --rdzv_endpoint=$MASTER_ADDR:$MASTER_PORT main.py
"""
#: In the manner of OpenMMLab's tools/dist_train.sh: one host unless these variables say more.
DIST_TRAIN = """
GPUS=$1
torchrun --nnodes=${NNODES:-1} --node_rank=${NODE_RANK:-0} --nproc_per_node=$GPUS \\
  --master_addr=${MASTER_ADDR:-127.0.0.1} --master_port=${MASTER_PORT:-29500} main.py ${@:2}
"""
#: As pytorch/examples has it in distributed/ddp-tutorial-series/slurm.
SBATCH = """#!/bin/bash
#SBATCH --job-name=multinode-example
#SBATCH --nodes=2
#SBATCH --ntasks=2
#SBATCH --cpus-per-task=1
nodes=( $( scontrol show hostnames $SLURM_JOB_NODELIST ) )
nodes_array=($nodes)
head_node=${nodes_array[0]}
head_node_ip=$(srun --nodes=1 --ntasks=1 -w "$head_node" hostname --ip-address)
echo Node IP: $head_node_ip
srun torchrun --nnodes 2 --nproc_per_node 1 --rdzv_id $RANDOM --rdzv_backend c10d \\
  --rdzv_endpoint $head_node_ip:29500 main.py
"""
#: As detectron2 has it in engine/launch.py, and YOLOX, fast-reid and others that began as it; with gloo.
ENGINE = """
import torch.distributed as dist
import torch.multiprocessing as mp

def launch(main_func, num_gpus_per_machine, num_machines=1, machine_rank=0, dist_url=None, args=()):
    world_size = num_machines * num_gpus_per_machine
    mp.start_processes(
        _distributed_worker, nprocs=num_gpus_per_machine, daemon=False,
        args=(main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args),
    )

def _distributed_worker(local_rank, main_func, world_size, num_gpus_per_machine, machine_rank, dist_url, args):
    rank = machine_rank * num_gpus_per_machine + local_rank
    dist.init_process_group("gloo", init_method=dist_url, world_size=world_size, rank=rank)
    main_func(*args)
"""
TRAIN_NET = """
import argparse, gc
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from engine import launch

def main(args):
    model = DistributedDataParallel(torch.nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(500):
        optimizer.zero_grad()
        model(torch.ones(4, 8)).pow(2).mean().backward()
        optimizer.step()
    print("trained by", dist.get_world_size(), flush=True)
    del model, optimizer
    gc.collect()
    dist.destroy_process_group()

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-gpus", type=int, default=1)
    parser.add_argument("--num-machines", type=int, default=1)
    parser.add_argument("--machine-rank", type=int, default=0)
    parser.add_argument("--dist-url", default="tcp://127.0.0.1:29599")
    args = parser.parse_args()
    launch(main, args.num_gpus, num_machines=args.num_machines, machine_rank=args.machine_rank,
           dist_url=args.dist_url, args=(args,))
"""
#: A script that torch.distributed.launch tells its rank, as those before torchrun take it.
LOCAL_RANK = """
import argparse
import torch
import torch.distributed as dist

parser = argparse.ArgumentParser()
parser.add_argument("--local_rank", "--local-rank", type=int)
args = parser.parse_args()
dist.init_process_group("gloo", init_method="env://")
total = torch.ones(1)
for _ in range(200):
    dist.all_reduce(total.fill_(1.0))
print("trained by", int(total), "local", args.local_rank, flush=True)
dist.destroy_process_group()
"""
PYPROJECT = """[project]
name = "digits"
version = "0.1"
requires-python = ">=3.10"
dependencies = ["torch"]
"""
#: A language model of random weights with a tokenizer of its own, and texts.
TINY = """
import json, os
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

words = {word: n for n, word in enumerate(["<pad>", "<s>", "</s>", "<unk>", *"abcdefghij"])}
plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
plain.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=plain, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
                        unk_token="<unk>").save_pretrained("tiny")
LlamaForCausalLM(LlamaConfig(vocab_size=len(words), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
                             num_attention_heads=2)).save_pretrained("tiny")
os.mkdir("texts")
with open("texts/train.jsonl", "w") as texts:
    texts.writelines(json.dumps({"text": "a b c d e f g h i j"}) + "\\n" for _ in range(16))
"""
SFT = (
    "-m trl.scripts.sft --model_name_or_path ./tiny --dataset_name ./texts"
    " --output_dir sft-out --max_steps 60 --per_device_train_batch_size 2 --report_to none --use_cpu"
)
#: `Accelerator()` obeys ACCELERATE_USE_CPU. A bare `PartialState()`, as in accelerate's own test_ops, does
#: not: without GPUs, each rank joins the group and then works alone, and the one that ends first breaks the
#: start of the other in gloo's connectFullMesh.
ACCELERATOR = """
import gc
import torch
from accelerate import Accelerator

accelerator = Accelerator()
model = torch.nn.Linear(8, 1)
model, optimizer = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1))
for _ in range(500):
    optimizer.zero_grad()
    accelerator.backward(model(torch.ones(4, 8)).pow(2).mean())
    optimizer.step()
print("trained by", accelerator.num_processes, accelerator.gather(torch.ones(1)).tolist(), flush=True)
del model, optimizer
gc.collect()
accelerator.end_training()
"""
CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_machines: 2
num_processes: 2
machine_rank: 0
main_process_ip: 10.0.0.1
main_process_port: 29500
rdzv_backend: static
mixed_precision: 'no'
use_cpu: false
"""

PROJECTS = (
    Project(
        "accelerate test_sync",
        "accelerate launch -m accelerate.test_utils.scripts.test_sync",
        f"ACCELERATE_USE_CPU=true {ACCELERATE} --multi_gpu --rdzv_backend static"
        " -m accelerate.test_utils.scripts.test_sync",
        r"Test `accumulate` gradient accumulation",
        aborts=True,
    ),
    Project(
        "accelerate config file",
        "accelerate launch --config_file multi_node.yaml train.py",
        f"ACCELERATE_USE_CPU=true {ACCELERATE} --config_file multi_node.yaml train.py",
        r"trained by 2 \[1\.0, 1\.0\]",
        {"multi_node.yaml": CONFIG, "train.py": ACCELERATOR},
    ),
    Project(
        "Transformers Trainer",
        "torchrun --nproc_per_node 1 trainer.py",
        f"{TORCHRUN} trainer.py",
        r"trained by 2",
        {"trainer.py": TRAINER},
        output="out",
    ),
    Project(
        "Lightning",
        "--framework lightning fit.py",
        "MASTER_ADDR={addr} MASTER_PORT={port} NODE_RANK={rank} python fit.py",
        r"trained by 2",
        {"fit.py": LIGHTNING},
    ),
    Project(
        "PyTorch-Ignite",
        "torchrun main.py",
        f"{TORCHRUN} main.py",
        r"trained by 2 3",
        {"main.py": IGNITE},
    ),
    Project(
        "mpi4py bench",
        "--framework mpi mpirun -np 2 python -m mpi4py.bench ringtest --loop 500",
        f"{MPIRUN} python -m mpi4py.bench ringtest --loop 500",
        r"time for 500 loops",
        alone=True,
    ),
    Project(
        "mpi4py futures",
        "--framework mpi mpirun -np 2 python -m mpi4py.futures primes.py",
        f"{MPIRUN} python -m mpi4py.futures primes.py",
        r"\[True, True, False",
        {
            "primes.py": """
from mpi4py.futures import MPIPoolExecutor

def is_prime(n):
    return all(n % d for d in range(2, n))

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        found = list(executor.map(is_prime, [*range(2, 9), *range(4_000_000, 4_000_400)]))
        print(found[:7], sum(found), flush=True)
"""
        },
        alone=True,
    ),
    Project(
        "Horovod",
        "--framework horovod horovodrun -np 2 python hvd.py",
        f"{MPIRUN} python hvd.py",
        r"trained by 2",
        {"hvd.py": HOROVOD},
        python="horovod",
        alone=True,
    ),
    Project(
        "Lightning Fabric",
        "fabric run --accelerator cpu --devices 1 train.py",
        "fabric run --accelerator cpu --devices 1 --num-nodes 2 --node-rank {rank}"
        " --main-address {addr} --main-port {port} train.py",
        r"trained by 2 2",
        {"train.py": FABRIC},
    ),
    Project(
        "TRL sft",
        f"accelerate launch {SFT}",
        f"ACCELERATE_USE_CPU=true {ACCELERATE} --multi_gpu --rdzv_backend static {SFT}",
        r"'train_runtime'",
        made_by=TINY,
        output="sft-out",
        aborts=True,
    ),
    Project(
        "DeepSpeed",
        "-e DS_ACCELERATOR=cpu deepspeed train.py --deepspeed --deepspeed_config zero.json",
        "DS_ACCELERATOR=cpu deepspeed --hostfile hostfile --no_ssh --node_rank {rank}"
        " --master_addr {addr} --master_port {port}"
        " train.py --deepspeed --deepspeed_config zero.json",
        r"trained by 2 1",
        {"train.py": DEEPSPEED, "zero.json": ZERO, "hostfile": "lab1 slots=1\nlab2 slots=1\n"},
        python="deepspeed",
    ),
    Project(
        "JAX",
        "--framework env python main.py {{{{master_addr}}}}:{{{{master_port}}}}"
        " {{{{num_nodes}}}} {{{{node_rank}}}}",
        "python main.py {addr}:{port} 2 {rank}",
        r"computed by 2 2",
        {"main.py": JAX},
        python="jax",
    ),
    Project(
        "TensorFlow",
        "--framework tensorflow main.py",
        f"{TF_CONFIG} python main.py",
        r"trained by 2 1.8",
        {"main.py": TENSORFLOW},
        python="tensorflow",
    ),
    Project(
        "torch RPC",
        "--framework env python rpc.py --world_size={{{{num_nodes}}}} --rank={{{{node_rank}}}}"
        " --master_addr={{{{master_addr}}}} --master_port={{{{master_port}}}}",
        "python rpc.py --world_size=2 --rank={rank} --master_addr={addr} --master_port={port}",
        r"added by worker1 \[1500",
        {"rpc.py": RPC},
        python="torch",
    ),
    Project(
        "torchrun by c10d in a script",
        "--framework env bash run.sh",
        f"NUM_NODES=2 MASTER_ADDR={{addr}} MASTER_PORT={{port}} {ON_LOOPBACK} bash run.sh",
        r"trained by 2",
        {"main.py": DDP, "run.sh": C10D},
        python="torch",
    ),
    Project(
        "dist_train.sh",
        "--framework env bash dist_train.sh 1",
        "NNODES=2 NODE_RANK={rank} MASTER_ADDR={addr} MASTER_PORT={port} bash dist_train.sh 1",
        r"trained by 2",
        {"main.py": DDP, "dist_train.sh": DIST_TRAIN},
        python="torch",
    ),
    Project(
        "PyTorch's sbatch script",
        "job.sbatch",
        f"{ON_LOOPBACK} torchrun --nnodes 2 --nproc_per_node 1 --rdzv_id 17 --rdzv_backend c10d"
        " --rdzv_endpoint {addr}:{port} main.py",
        r"trained by 2",
        {"main.py": DDP, "job.sbatch": SBATCH},
        python="torch",
    ),
    Project(
        "detectron2's launch",
        "--framework env python train_net.py --num-gpus 1 --num-machines {{{{num_nodes}}}}"
        " --machine-rank {{{{node_rank}}}} --dist-url tcp://{{{{master_addr}}}}:{{{{master_port}}}}",
        "python train_net.py --num-gpus 1 --num-machines 2 --machine-rank {rank}"
        " --dist-url tcp://{addr}:{port}",
        r"trained by 2",
        {"train_net.py": TRAIN_NET, "engine.py": ENGINE},
        python="torch",
    ),
    Project(
        "torch.distributed.launch",
        "OMP_NUM_THREADS=1 NODE_RANK=0 python -m torch.distributed.launch --nproc_per_node=1 --nnodes=2"
        " --node_rank=0 --master_addr=192.168.1.1 --master_port=1234 main.py",
        "OMP_NUM_THREADS=1 python -m torch.distributed.launch --nproc_per_node=1 --nnodes=2"
        " --node_rank={rank} --master_addr={addr} --master_port={port} main.py",
        r"trained by 2 local 0",
        {"main.py": LOCAL_RANK},
        python="torch",
    ),
    Project(
        "Poetry's torchrun",
        "--venv {env} poetry run torchrun main.py",
        f"VIRTUAL_ENV={{env}} poetry run {TORCHRUN} main.py",
        r"trained by 2",
        {"main.py": DDP, "pyproject.toml": PYPROJECT},
        python="wrappers",
    ),
    Project(
        "PDM's torchrun",
        "--venv {env} pdm run torchrun main.py",
        f"VIRTUAL_ENV={{env}} pdm run {TORCHRUN} main.py",
        r"trained by 2",
        {"main.py": DDP, "pyproject.toml": PYPROJECT},
        python="wrappers",
    ),
    Project(
        "Dask", "--framework dask client.py", DASK_BY_HAND, r"summed by 2 60", {"client.py": DASK}
    ),
)


def fill(project: Project, python: Path, work: Path) -> None:
    """Make the folder from which a user starts it."""
    work.mkdir(parents=True, exist_ok=True)
    for name, text in project.files.items():
        (work / name).write_text(text)
    if project.made_by:
        made = [str(python), "-c", project.made_by]
        subprocess.run(made, cwd=work, check=True, capture_output=True)


def introduce(lab: Lab) -> None:
    """Let the first host log in to the others, as mpirun by hand does. launcher needs no such key."""
    first, *others = lab.hosts.values()
    first.write("/root/.ssh/id_ed25519", lab.identity_file.read_bytes(), 0o600)
    known = (f"{host.address} {host.host_key.with_suffix('.pub').read_text()}" for host in others)
    first.write("/root/.ssh/known_hosts", "".join(known).encode())


def by_hand(
    project: Project, hosts: Sequence[LabHost], python: Path, work: Path, ssh: str, back: Path
) -> str:
    """Return what a careful user has in a shell script: copy to all hosts at once, start on all at once,
    fetch what they wrote, at once, too."""
    rsync = f"rsync -a --delete -e {shlex.quote(ssh)}"
    values = {
        "addr": hosts[0].address,
        "other": hosts[-1].address,
        "port": PORT,
        "env": python.parent.parent,
    }
    copies, starts, fetches = [], [], []
    for rank, host in enumerate(hosts):
        device = host.spec.interface
        names = f"GLOO_SOCKET_IFNAME={device} TP_SOCKET_IFNAME={device}"
        names += f" PATH={python.parent}:$PATH HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 {MARK}=1"
        command = project.by_hand.format(rank=rank, own=host.address, **values)
        script = shlex.quote(f"cd {FOLDER}; export {names}; {command}")
        there = f"timeout 150 bash -c {script}"
        copies.append(f"{rsync} {shlex.quote(str(work))}/ {host.name}:{FOLDER}/")
        if not (project.alone and rank):
            starts.append(f"{ssh} {host.name} {shlex.quote(there)}")
        if project.output:
            place = shlex.quote(str(back / host.name))
            fetches.append(f"{rsync} {host.name}:{FOLDER}/{project.output}/ {place}/")
    return "\n".join(_at_once(lines) for lines in (copies, starts, fetches) if lines)


def _at_once(commands: Sequence[str]) -> str:
    """Return the lines of a shell that runs all of them, and ends all when one of them has failed."""
    failed = "trap 'kill -- $groups; exit 1' USR1"
    starts = [f'({one} || kill -USR1 $$) & groups="$groups -$!"' for one in commands]
    return "\n".join(["set -m", "groups=", failed, *starts, "wait"])


def end(lab: Lab) -> None:
    """End what a failed start by hand has left on the hosts."""
    for host in lab.hosts.values():
        for process in host.processes():
            if MARK in process.environ:
                host.run("kill", "-9", str(process.pid), check=False)
