"""Programs that fail, one for each way in which users' programs do.

Made on a machine without GPUs with torch 2.14 (cuda-of-cpu-build and cuda-set-device: a CPU build of 2.13),
transformers, accelerate, datasets, lightning, deepspeed, wandb, comet_ml, neptune, clearml, jax, tensorflow,
ray, dask, pyspark, horovod, mpi4py, hydra-core, rich and Open MPI 4.1; own-name-random-313 wants a python3.13 on PATH.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

TORCHRUN = ("torchrun", "--nproc-per-node=2", "--master-port=29533", "train.py")
MPIRUN = ("mpirun", "-np", "2", "--oversubscribe", "--mca", "btl", "self,vader", "python")
PYTHON = ("python", "train.py")
#: A task of Slurm's first step, as Open MPI takes it.
OF_SRUN = {
    "SLURM_JOBID": "7",
    "SLURM_STEPID": "0",
    "SLURM_STEP_ID": "0",
    "SLURM_JOB_ID": "7",
    "SLURM_TASKS_PER_NODE": "1(x2)",
    "SLURM_STEP_NODELIST": "gpu1,gpu2",
    "SLURM_PROCID": "0",
    "SLURM_NODELIST": "gpu1,gpu2",
    "SLURM_STEP_NUM_TASKS": "2",
}


@dataclass(frozen=True)
class Provocation:
    """Files of a folder, and what is started in it, after ``before`` in a shell."""

    files: Mapping[str, str]
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    seconds: float = 240


def _py(
    text: str,
    *command: str,
    before: str = "",
    files: Mapping[str, str] | None = None,
    **environment: str,
) -> Provocation:
    return Provocation({"train.py": text, **(files or {})}, command or PYTHON, environment, before)


def _sh(
    text: str,
    *command: str,
    before: str = "",
    files: Mapping[str, str] | None = None,
    **environment: str,
) -> Provocation:
    files = {"train.sh": text, **(files or {})}
    return Provocation(files, command or ("bash", "train.sh"), environment, before)


GLOO = "import os, torch, torch.distributed as dist\ndist.init_process_group('gloo')\nrank = dist.get_rank()\n"
CLASS = "import torch\nclass Config:\n    lr = 0.1\ntorch.save({'config': Config()}, 'last.pt')\n"
FIT = """\
import tensorflow as tf
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile(optimizer='sgd', loss='mse')
"""
RAY = "import ray\nray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)\n"
#: A cluster of somebody else on this machine is none of ours.
OWN_RAY = "mkdir -p /tmp/ray; mount -t tmpfs none /tmp/ray"
SPARK = """\
from pyspark.sql import SparkSession
def bad(number): raise ValueError('bad sample %d' % number)
spark = SparkSession.builder.master('local[1]').config('spark.ui.enabled', 'false').getOrCreate()
"""
TRAINER = """\
import torch, lightning as L
from lightning.pytorch.demos.boring_classes import BoringModel
"""
BATCH = """\
import torch, deepspeed
model = torch.nn.Linear(2, 2)
"""

#: A hub on this machine that answers as Hugging Face's does: a status, and the headers of its errors.
HUB = """\
import http.server, json, os, sys
parent, status, headers = os.getppid(), int(sys.argv[1]), json.loads(sys.argv[2])
class Hub(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_HEAD = do_POST = do_GET
    def log_message(self, *args):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8765), Hub)
server.timeout = 0.2
while os.getppid() == parent:
    server.handle_request()
"""
LLAMA = "meta-llama/Llama-3.1-8B"
GATED = {
    401: {
        "X-Error-Code": "GatedRepo",
        "X-Error-Message": f"Access to model {LLAMA} is restricted. You must have access to it and be "
        "authenticated to access it. Please log in.",
    },
    403: {
        "X-Error-Code": "GatedRepo",
        "X-Error-Message": f"Access to model {LLAMA} is restricted and you are not in the authorized "
        f"list. Visit https://huggingface.co/{LLAMA} to ask for access.",
    },
}


def _hub(text: str, status: int, headers: Mapping[str, str], **environment: str) -> Provocation:
    """Return what fails at a hub that answers so."""
    before = (
        f"python hub.py {status} {shlex.quote(json.dumps(headers))} >/dev/null 2>&1 & "
        "until python -c 'import socket; socket.create_connection((\"127.0.0.1\", 8765))' "
        "2>/dev/null; do :; done"
    )
    known = {"HF_ENDPOINT": "http://127.0.0.1:8765", **environment}
    return Provocation({"train.py": text, "hub.py": HUB}, PYTHON, known, before)


PROVOCATIONS: dict[str, Provocation] = {
    # -- the script's own errors: nobody knows better
    "own-value-error": _py("raise ValueError('the loss is nan in step 7')\n"),
    "own-exit-message": _py("import sys\nsys.exit('no data for split train')\n"),
    "own-exit-7": _sh("echo giving up\nexit 7\n"),
    "own-shape": _py("import torch\ntorch.zeros(2, 3) @ torch.zeros(4, 5)\n"),
    "own-key": _py("batch = {'input_ids': 1}\nbatch['labels']\n"),
    "own-state-dict": _py(
        "import torch\ntorch.nn.Linear(2, 2).load_state_dict({'weight': torch.zeros(3, 2)})\n"
    ),
    "own-syntax": _py("def train(:\n    pass\n"),
    "own-circular-import": _py(
        "import model\n",
        files={
            "model.py": "import layers\nclass Model: pass\n",
            "layers.py": "from model import Model\n",
        },
    ),
    "own-assert-after-warning": _py(
        "import warnings\nwarnings.warn('Connection refused, trying again')\nassert 1 > 2\n"
    ),
    "own-quoted-source": _py("class Bad(Exception): pass\nraise Bad('x')  # CUDA out of memory\n"),
    "own-rich-traceback": _py(
        "from rich.traceback import install\ninstall(width=100, suppress=[])\n# RuntimeError: No space left on device, says somebody\nraise ValueError('x')\n"
    ),
    "own-group": _py(
        "import asyncio\nasync def bad():\n    raise ValueError('one of the group')\nasync def main():\n    async with asyncio.TaskGroup() as group:\n        group.create_task(bad())\nasyncio.run(main())\n"
    ),
    # -- wrappers
    "torchrun-value": _py(
        GLOO + "if rank == 1:\n    raise ValueError('bad sample 17')\ndist.barrier()\n", *TORCHRUN
    ),
    "torchrun-tee": _py(
        GLOO + "if rank == 1:\n    import einops_exts\ndist.barrier()\n",
        *TORCHRUN[:-1],
        "--tee=3",
        "train.py",
    ),
    "torchrun-import": _py("import einops_exts\n", *TORCHRUN),
    "torchrun-weights-only": _py(
        CLASS.replace("'last.pt'", "'last%s.pt' % __import__('os').environ['RANK']")
        + "torch.load('last%s.pt' % __import__('os').environ['RANK'])\n",
        *TORCHRUN,
    ),
    "accelerate-value": _py(
        "raise ValueError('bad sample 17')\n",
        "accelerate",
        "launch",
        "--cpu",
        "--num_processes=1",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "train.py",
    ),
    "accelerate-import": _py(
        "import einops_exts\n",
        "accelerate",
        "launch",
        "--cpu",
        "--num_processes=2",
        "--num_machines=1",
        "--mixed_precision=no",
        "--dynamo_backend=no",
        "train.py",
    ),
    "torchrun-stopped": Provocation(
        {"train.py": "import time\nprint('epoch 1', flush=True)\ntime.sleep(300)\n"},
        ("timeout", "-s", "TERM", "20", *TORCHRUN),
    ),
    "spawn-value": _py(
        "import torch.multiprocessing as mp\ndef work(rank):\n    if rank == 1:\n        raise ValueError('bad sample 17')\nif __name__ == '__main__':\n    mp.spawn(work, nprocs=2)\n"
    ),
    "spawn-disk": _py(
        "import torch.multiprocessing as mp\ndef work(rank):\n    with open('/dev/full', 'w') as file:\n        file.write('x')\nif __name__ == '__main__':\n    mp.spawn(work, nprocs=1)\n"
    ),
    "spawn-no-guard": _py(
        "import torch.multiprocessing as mp\ndef work(rank):\n    pass\nmp.spawn(work, nprocs=1)\n"
    ),
    "pool-value": _py(
        "import multiprocessing as mp\ndef work(n):\n    raise ValueError('bad sample 17')\nif __name__ == '__main__':\n    mp.Pool(1).map(work, [1])\n"
    ),
    "hydra-value": _py(
        "import hydra\n@hydra.main(version_base=None)\ndef main(cfg):\n    raise ValueError('bad sample 17')\nmain()\n",
        PYTHONWARNINGS="ignore",
    ),
    "hydra-import": _py(
        "import hydra\n@hydra.main(version_base=None)\ndef main(cfg):\n    import colorlogs\nmain()\n",
        PYTHONWARNINGS="ignore",
    ),
    "hydra-override": _py(
        "import hydra\n@hydra.main(version_base=None)\ndef main(cfg):\n    pass\nmain()\n",
        "python",
        "train.py",
        "trainer=ddp",
        PYTHONWARNINGS="ignore",
    ),
    "make-import": Provocation(
        {"Makefile": "train:\n\tpython train.py\n", "train.py": "import einops_exts\n"},
        ("make", "train"),
    ),
    "mpi-value": _py(
        "from mpi4py import MPI\nif MPI.COMM_WORLD.rank == 1:\n    raise ValueError('bad sample 17')\nMPI.COMM_WORLD.Barrier()\n",
        *MPIRUN,
        "-m",
        "mpi4py",
        "train.py",
    ),
    "mpi-unreachable": _py(
        "from mpi4py import MPI\nif MPI.COMM_WORLD.rank == 1:\n    raise ValueError('bad sample 17')\nMPI.COMM_WORLD.Barrier()\n",
        *MPIRUN[:-2],
        "self,tcp",
        "python",
        "-m",
        "mpi4py",
        "train.py",
    ),
    "mpi-tag-output": _py(
        "from mpi4py import MPI\nif MPI.COMM_WORLD.rank == 1:\n    import einops_exts\nMPI.COMM_WORLD.Barrier()\n",
        *MPIRUN[:-1],
        "--tag-output",
        *("python", "-m", "mpi4py", "train.py"),
    ),
    "mpi-by-srun": _py("from mpi4py import MPI\nprint(MPI.COMM_WORLD.size)\n", **OF_SRUN),
    "mpi-import": _py("import einops_exts\n", *MPIRUN, "train.py"),
    "mpi-no-program": _sh("mpirun -np 1 solver --steps 3\n"),
    "mpi-as-root": _sh(
        "unset OMPI_ALLOW_RUN_AS_ROOT OMPI_ALLOW_RUN_AS_ROOT_CONFIRM\nmpirun -np 1 hostname\n"
    ),
    "mpi-no-slots": _sh("mpirun -np 64 hostname\n"),
    "ray-value": _py(
        RAY
        + "@ray.remote\ndef work():\n    raise ValueError('bad sample 17')\nray.get(work.remote())\n",
        before=OWN_RAY,
    ),
    "ray-import": _py(
        RAY + "@ray.remote\ndef work():\n    import einops_exts\nray.get(work.remote())\n",
        before=OWN_RAY,
    ),
    "ray-no-cluster": _py("import ray\nray.init(address='auto')\n", before=OWN_RAY),
    "spark-value": _py(SPARK + "spark.sparkContext.parallelize([17]).map(bad).collect()\n"),
    "spark-no-class": _py(
        SPARK + "spark.sparkContext._jvm.java.lang.Class.forName('org.lab.Reader')\n"
    ),
    "dask-value": _py(
        "from dask.distributed import Client\ndef work(x):\n    raise ValueError('bad sample 17')\nif __name__ == '__main__':\n    client = Client(n_workers=1, threads_per_worker=1, dashboard_address=None)\n    client.submit(work, 1).result()\n"
    ),
    "dask-no-scheduler": _py(
        "from dask.distributed import Client\nClient('tcp://127.0.0.1:8786', timeout=3)\n"
    ),
    "group-import": _py(
        "import asyncio\nasync def bad():\n    import einops_exts\nasync def main():\n    async with asyncio.TaskGroup() as group:\n        group.create_task(bad())\nasyncio.run(main())\n"
    ),
    "worker-value": _py(
        "import torch\nfrom torch.utils.data import DataLoader\nclass Data:\n    def __len__(self): return 4\n    def __getitem__(self, n): raise ValueError('bad sample 17')\nif __name__ == '__main__':\n    next(iter(DataLoader(Data(), num_workers=1)))\n"
    ),
    "worker-missing-file": _py(
        "import torch\nfrom torch.utils.data import DataLoader\nclass Data:\n    def __len__(self): return 4\n    def __getitem__(self, n): return open('/data/imagenet/17.jpg')\nif __name__ == '__main__':\n    next(iter(DataLoader(Data(), num_workers=1)))\n"
    ),
    "worker-killed": _py(
        "import os, signal, torch\nfrom torch.utils.data import DataLoader\nclass Data:\n    def __len__(self): return 4\n    def __getitem__(self, n): os.kill(os.getpid(), signal.SIGKILL)\nif __name__ == '__main__':\n    next(iter(DataLoader(Data(), num_workers=1)))\n"
    ),
    "worker-shared-memory": _py(
        "import torch\nfrom torch.utils.data import DataLoader\nclass Data:\n    def __len__(self): return 64\n    def __getitem__(self, n): return torch.zeros(1 << 20)\nif __name__ == '__main__':\n    for _ in DataLoader(Data(), batch_size=8, num_workers=2): pass\n",
        before="mount -t tmpfs -o size=4m none /dev/shm",
    ),
    # -- torch
    "weights-only": _py(CLASS + "torch.load('last.pt')\n"),
    "checkpoint-cut": _py(
        "import torch\ntorch.save(torch.zeros(100000), 'last.pt')\nopen('cut.pt', 'wb').write(open('last.pt', 'rb').read()[:2000])\ntorch.load('cut.pt')\n"
    ),
    "checkpoint-html": _py(
        "import torch\nopen('last.pt', 'w').write('<!DOCTYPE html><html>404</html>')\ntorch.load('last.pt')\n"
    ),
    "checkpoint-lfs": _py(
        "import torch\nopen('last.pt', 'w').write('version https://git-lfs.github.com/spec/v1\\noid sha256:12\\n')\ntorch.load('last.pt', weights_only=False)\n"
    ),
    "checkpoint-empty": _py("import torch\nopen('last.pt', 'w')\ntorch.load('last.pt')\n"),
    "checkpoint-of-gpu": _py(
        "import torch\ntorch.serialization.location_tag = lambda storage: 'cuda:0'\ntorch.save(torch.zeros(2), 'last.pt')\ntorch.load('last.pt')\n"
    ),
    "safetensors-cut": _py(
        "from safetensors.torch import save_file, load_file\nimport torch\nsave_file({'w': torch.zeros(1000)}, 'm.safetensors')\nopen('cut.safetensors', 'wb').write(open('m.safetensors', 'rb').read()[:1000])\nload_file('cut.safetensors')\n"
    ),
    "cuda-no-driver": _py("import torch\ntorch.zeros(1).cuda()\n"),
    "cuda-of-cpu-build": _py("import torch\ntorch.zeros(1).cuda()\n"),
    "cuda-set-device": _py("import torch\ntorch.cuda.set_device(0)\n"),
    "nccl-without-gpu": _py(
        "import torch.distributed as dist\ndist.init_process_group('nccl')\n", *TORCHRUN
    ),
    "no-rank": _py("import os\nrank = int(os.environ['RANK'])\n"),
    "no-env-rendezvous": _py("import torch.distributed as dist\ndist.init_process_group('gloo')\n"),
    "port-taken": _py(
        "import socket, torch.distributed as dist\ns = socket.create_server(('127.0.0.1', 29533))\ndist.init_process_group('gloo', init_method='tcp://127.0.0.1:29533', rank=0, world_size=2)\n"
    ),
    "nobody-came": _py(
        "import datetime, torch.distributed as dist\ndist.init_process_group('gloo', init_method='tcp://127.0.0.1:29533', rank=0, world_size=2, timeout=datetime.timedelta(seconds=4))\n"
    ),
    "nobody-listens": _py(
        "import datetime, torch.distributed as dist\ndist.init_process_group('gloo', init_method='tcp://127.0.0.1:29533', rank=1, world_size=2, timeout=datetime.timedelta(seconds=4))\n"
    ),
    "no-interface": _py(
        "import torch.distributed as dist\ndist.init_process_group('gloo', init_method='tcp://127.0.0.1:29533', rank=0, world_size=1)\n",
        GLOO_SOCKET_IFNAME="eth9",
    ),
    # It happens now and then only: in about one of five starts, where the machine is busy.
    # It happens now and then only: in about one of five starts, where the machine is busy.
    "peer-gone-early": _py(
        "import os, sys, torch, torch.distributed as dist\nfor port in range(29540, 29740):\n    ranks = []\n    for rank in (0, 1):\n        ranks.append(os.fork())\n        if not ranks[-1]:\n            os.dup2(os.open('words%d' % rank, os.O_CREAT | os.O_TRUNC | os.O_WRONLY), 2)\n            __import__('time').sleep(port % 7 / 50 * rank)\n            dist.init_process_group('gloo', f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)\n            os._exit(0)\n    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in ranks]\n    for rank in (0, 1):\n        words = open('words%d' % rank).read()\n        if codes[rank] and 'Mesh failed' in words:\n            sys.stderr.write(words)\n            sys.exit(codes[rank])\n",
    ),
    "peer-gone": _py(
        GLOO + "if rank == 1:\n    os._exit(0)\ndist.all_reduce(torch.zeros(1))\n", *TORCHRUN
    ),
    # It happens now and then only: in about one of ten starts.
    "group-left-open": _py(
        "import os, subprocess, sys\nranks = lambda port: [subprocess.Popen([sys.executable, 'rank.py'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, 'RANK': str(rank), 'WORLD_SIZE': '2', 'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}) for rank in (0, 1)]\nfor port in range(29540, 29740):\n    for rank in ranks(port):\n        words = rank.communicate()[0]\n        if rank.returncode:\n            sys.stderr.buffer.write(words)\n            sys.stderr.flush()\n            os.kill(os.getpid(), -rank.returncode)\n",
        files={
            "rank.py": GLOO
            + "dist.all_gather([torch.zeros(1), torch.zeros(1)], torch.ones(1))\nprint('rank', rank, 'is done')\n"
        },
    ),
    # So does this, although the group is destroyed: the model keeps it until Python has ended.
    "group-kept-by-model": _py(
        "import subprocess, sys\ncommand = ['torchrun', '--nproc-per-node=2', '--master-port=29533', 'rank.py']\nfor _ in range(100):\n    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)\n    if ran.returncode:\n        sys.stderr.buffer.write(ran.stdout)\n        sys.exit(ran.returncode)\n",
        files={
            "rank.py": GLOO
            + "model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(8, 1))\nfor _ in range(20):\n    model(torch.ones(4, 8)).sum().backward()\nprint('rank', rank, 'is done')\ndist.destroy_process_group()\n"
        },
        OMP_NUM_THREADS="1",
    ),
    # What the torchrun of a second host says when that of the first, which keeps the store, has failed.
    "c10d-store-left": _sh(
        "export PET_NNODES=2 PET_NPROC_PER_NODE=1 PET_RDZV_BACKEND=c10d PET_RDZV_ID=17 PET_LOCAL_ADDR=127.0.0.1\nexport PET_RDZV_ENDPOINT=127.0.0.1:29541\nKEEPS=1 PET_RDZV_CONF=is_host=true torchrun rank.py >/dev/null 2>&1 &\nPET_RDZV_CONF=is_host=false exec torchrun rank.py\n",
        files={
            "rank.py": "import os, sys, time\nif 'KEEPS' in os.environ:\n    time.sleep(2)\n    sys.exit(3)\ntime.sleep(60)\n"
        },
    ),
    "barrier-alone": _py(
        GLOO
        + "import datetime, time\nif rank == 0:\n    dist.monitored_barrier(timeout=datetime.timedelta(seconds=3))\nelse:\n    time.sleep(30)\n",
        *TORCHRUN,
    ),
    "other-collective": _py(
        GLOO + "x = torch.zeros(1)\ndist.all_reduce(x) if rank else dist.broadcast(x, 0)\n",
        *TORCHRUN,
        TORCH_DISTRIBUTED_DEBUG="DETAIL",
    ),
    "ddp-unused": _py(
        GLOO
        + "from torch import nn\nclass Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.used, self.unused = nn.Linear(2, 2), nn.Linear(2, 2)\n    def forward(self, x): return self.used(x)\nnet = nn.parallel.DistributedDataParallel(Net())\nfor _ in range(2): net(torch.zeros(1, 2)).sum().backward()\n",
        *TORCHRUN,
    ),
    "segfault": _py("import ctypes\nctypes.string_at(0)\n"),
    "killed": _py(
        "import os, signal\nprint('epoch 3', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    ),
    # -- memory, files and limits
    "memory-torch": _py("import torch\ntorch.zeros(1 << 50)\n"),
    "memory-numpy": _py("import numpy as np\nnp.zeros(1 << 50)\n"),
    "memory-python": _py("x = bytearray(1 << 62)\n"),
    "disk-full": _py(
        "import torch\ntorch.save(torch.zeros(1 << 22), 'data/last.pt')\n",
        before="mkdir data; mount -t tmpfs -o size=64k none data",
    ),
    "open-files": _py(
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))\nfiles = [open('train.py') for _ in range(32)]\n"
    ),
    "missing-data": _py("open('/data/imagenet/train.csv')\n"),
    "missing-own-file": _py("open('data/train.csv')\n"),
    "read-only-code": _py(
        "open('log.txt', 'w')\n", before="mount --bind . . && mount -o remount,ro,bind . && cd ."
    ),
    "no-access": _py(
        "open('log.txt', 'w')\n",
        "setpriv",
        "--reuid=65534",
        "--clear-groups",
        "python",
        "train.py",
        before="chmod 755 .",
    ),
    "missing-submodule": _py("import torch.ao.quantize_of_old\n"),
    "missing-library": _py("import ctypes\nctypes.CDLL('libcudnn.so.9')\n"),
    # -- commands
    "not-executable": _sh("./data.sh\n", "bash", "-c", "./train.sh"),
    "not-executable-inside": _py(
        "import subprocess\nsubprocess.run(['./prepare.sh'])\n", files={"prepare.sh": "#!/bin/sh\n"}
    ),
    "dos-lines": _sh("#!/bin/bash\r\nset -e\r\n", "bash", "-c", "chmod +x train.sh; ./train.sh"),
    "dos-lines-inside": _sh("cd /tmp\r\npython -V\r\n"),
    "no-command": _sh("set -e\ntrian --epochs 3\n"),
    "no-command-inside": _py("import subprocess\nsubprocess.run(['nvidia-smi', '-L'])\n"),
    "no-numactl": _sh("set -e\nnumactl -N 0 python train.py\n"),
    "unknown-argument": _py(
        "import argparse\nargparse.ArgumentParser().parse_args()\n",
        "python",
        "train.py",
        "--nodes",
        "2",
    ),
    "unknown-argument-torchrun": _py(
        "import argparse\nargparse.ArgumentParser().parse_args()\n", *TORCHRUN, "--nodes", "2"
    ),
    "local-rank-argument": _py(
        "import argparse\nargparse.ArgumentParser().parse_args()\n",
        "python",
        "-m",
        "torch.distributed.launch",
        "--nproc_per_node=1",
        "--master_port=29533",
        "train.py",
    ),
    "bad-value": _py(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float)\np.parse_args()\n",
        "python",
        "train.py",
        "--lr",
        "x",
    ),
    "click-option": _py(
        "import click\n@click.command()\ndef main(): pass\nmain()\n",
        "python",
        "train.py",
        "--nodes",
        "2",
    ),
    "hf-argument": _py(
        "from transformers import HfArgumentParser, TrainingArguments\nHfArgumentParser(TrainingArguments).parse_args_into_dataclasses()\n",
        "python",
        "train.py",
        "--output_dir",
        "out",
        "--nodes",
        "2",
    ),
    # -- names of one's own
    "own-name-torch": _py("import torch\nprint(torch.zeros(1))\n", files={"torch.py": "x = 1\n"}),
    "own-name-datasets": _py(
        "from datasets import load_dataset\n",
        files={"datasets.py": "from datasets import load_dataset\n"},
    ),
    "own-name-random": _py(
        "import random\nprint(random.randint(1, 2))\n",
        files={"random.py": "import random\nprint(random.randint(1, 2))\n"},
    ),
    "own-name-random-313": _py(
        "import random\nprint(random.randint(1, 2))\n",
        "python3.13",
        "train.py",
        files={"random.py": "x = 1\n"},
    ),
    "own-name-script": Provocation(
        {"wandb.py": "import wandb\nwandb.init()\n"}, ("python", "wandb.py")
    ),
    # -- trackers, hubs and downloads
    "wandb-no-key": _py("import wandb\nwandb.init(project='x')\n"),
    "wandb-offline": _py(
        "import wandb\nwandb.init(project='x', settings=wandb.Settings(init_timeout=5))\n",
        WANDB_API_KEY="0123456789abcdef0123456789abcdef01234567",
    ),
    "comet-no-key": _py("import comet_ml\ncomet_ml.Experiment(project_name='x')\n"),
    "comet-start-no-key": _py("import comet_ml\ncomet_ml.start(project_name='x')\n"),
    "neptune-no-token": _py("import neptune\nneptune.init_run(project='a/b')\n"),
    "clearml-no-key": _py("from clearml import Task\nTask.init(project_name='x', task_name='y')\n"),
    "hub-gated": _hub(
        f"from transformers import AutoConfig\nAutoConfig.from_pretrained('{LLAMA}')\n",
        401,
        GATED[401],
    ),
    "hub-gated-not-granted": _hub(
        f"from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('{LLAMA}')\n",
        403,
        GATED[403],
        HF_TOKEN="hf_abcdefghijklmnopqrstuvwxyz12345678",
    ),
    "hub-gated-snapshot": _hub(
        f"from huggingface_hub import snapshot_download\nsnapshot_download('{LLAMA}')\n",
        401,
        GATED[401],
    ),
    "hub-gated-data": _hub(
        "from datasets import load_dataset\nload_dataset('imagenet-1k')\n", 401, GATED[401]
    ),
    "hub-private": _hub(
        "from huggingface_hub import hf_hub_download\nhf_hub_download('ana/mine', 'x.bin')\n",
        401,
        {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
    ),
    "hub-private-model": _hub(
        "from transformers import AutoConfig\nAutoConfig.from_pretrained('ana/mine')\n",
        401,
        {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"},
    ),
    "hub-gated-data-not-granted": _hub(
        "from datasets import load_dataset\nload_dataset('imagenet-1k')\n", 403, GATED[403]
    ),
    "hub-no-token": _hub(
        f"from huggingface_hub import hf_hub_download\nhf_hub_download('{LLAMA}', 'x', token=True)\n",
        401,
        GATED[401],
    ),
    "hub-model": _py(
        "from transformers import AutoModel\nAutoModel.from_pretrained('Qwen/Qwen2.5-0.5B')\n"
    ),
    "hub-model-offline": _py(
        "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('Qwen/Qwen2.5-0.5B')\n",
        HF_HUB_OFFLINE="1",
    ),
    "hub-no-such-model": _py(
        "from transformers import AutoModel\nAutoModel.from_pretrained('/opt/models/llama')\n"
    ),
    "hub-no-such-folder": _py(
        "from transformers import AutoTokenizer\nAutoTokenizer.from_pretrained('./models/llama')\n"
    ),
    "hub-relative-folder": _py(
        "from transformers import AutoModel\nAutoModel.from_pretrained('models/llama')\n"
    ),
    "hub-deep-folder": _py(
        "from transformers import AutoModel\nAutoModel.from_pretrained('out/run1/checkpoint-5')\n"
    ),
    "hub-snapshot": _py(
        "from huggingface_hub import snapshot_download\nsnapshot_download('Qwen/Qwen2.5-0.5B')\n"
    ),
    "hub-empty-folder": _py(
        "from transformers import AutoModel\nAutoModel.from_pretrained('./out')\n",
        files={"out/README.md": "x\n"},
    ),
    "datasets-hub": _py("from datasets import load_dataset\nload_dataset('imdb')\n"),
    "datasets-no-file": _py(
        "from datasets import load_dataset\nload_dataset('json', data_files='/data/train.jsonl')\n"
    ),
    "torchvision-of-other-torch": _py(
        "from torchvision.datasets import MNIST\nMNIST('data', download=True)\n"
    ),
    "download-hub": _py("import torch\ntorch.hub.load('pytorch/vision', 'resnet18')\n"),
    "download-requests": _py("import requests\nrequests.get('https://example.org/data.tar')\n"),
    "download-pip": _sh(
        "set -e\npip install --no-cache-dir --retries 0 --index-url https://packages.example/simple einops-exts\n",
        PIP_CONFIG_FILE="/dev/null",
    ),
    "download-git": _sh("set -e\ngit clone https://github.com/karpathy/nanoGPT\n"),
    "download-curl": _sh("set -e\ncurl -sS https://example.org/data.tar -o data.tar\n"),
    "unknown-host": _py("import socket\nsocket.create_connection(('node99', 29500))\n"),
    "refused": _py("import socket\nsocket.create_connection(('127.0.0.1', 29500))\n"),
    # -- frameworks
    "trainer-gpu": _py(TRAINER + "L.Trainer(accelerator='gpu', devices=1)\n"),
    "trainer-cuda": _py(TRAINER + "L.Trainer(accelerator='cuda', devices=2)\n"),
    "trainer-no-checkpoint": _py(
        TRAINER
        + "L.Trainer(accelerator='cpu', logger=False).test(BoringModel(), ckpt_path='lightning_logs/version_0/checkpoints/last.ckpt')\n"
    ),
    "trainer-value": _py(
        TRAINER
        + "class Model(BoringModel):\n    def training_step(self, *a): raise ValueError('bad sample 17')\nL.Trainer(accelerator='cpu', logger=False, enable_checkpointing=False, enable_progress_bar=False).fit(Model())\n"
    ),
    "deepspeed-of-other-torch": _py(
        BATCH
        + "deepspeed.initialize(model=model, model_parameters=model.parameters(), config={'train_batch_size': 16, 'train_micro_batch_size_per_gpu': 3, 'optimizer': {'type': 'Adam', 'params': {'lr': 0.1}, 'torch_adam': True}})\n",
        "torchrun",
        "--nproc-per-node=1",
        "--master-port=29533",
        "train.py",
    ),
    "deepspeed-batch": _py(
        BATCH
        + "deepspeed.initialize(model=model, model_parameters=model.parameters(), config={'train_batch_size': 16, 'train_micro_batch_size_per_gpu': 3})\n",
        "torchrun",
        "--nproc-per-node=1",
        "--master-port=29533",
        "train.py",
    ),
    "deepspeed-no-config": _py(
        BATCH + "deepspeed.initialize(model=model, config='ds.json')\n",
        "torchrun",
        "--nproc-per-node=1",
        "--master-port=29533",
        "train.py",
    ),
    "jax-no-numbers": _py("import jax\njax.distributed.initialize()\n"),
    "jax-no-process": _py(
        "import jax\njax.distributed.initialize(coordinator_address='127.0.0.1:29533')\n"
    ),
    "jax-no-gpu": _py("import jax\njax.devices('gpu')\n"),
    "jax-cuda": _py("import jax\njax.numpy.zeros(1)\n", JAX_PLATFORMS="cuda"),
    "jax-nobody-came": _py(
        "import jax\njax.distributed.initialize('127.0.0.1:29533', 2, 0, initialization_timeout=5)\n"
    ),
    "keras-optimizer": _py("import tensorflow as tf\ntf.keras.optimizers.legacy.Adam()\n"),
    "keras-lr": _py("import keras\nkeras.optimizers.Adam(lr=0.1)\n"),
    "keras-save": _py(FIT + "model.build((None, 1))\nmodel.save('model')\n"),
    "keras-load": _py(
        "import tensorflow as tf\ntf.keras.models.load_model('saved')\n",
        files={"saved/saved_model.pb": ""},
    ),
    "keras-two-workers": Provocation(
        {
            "train.py": "import tensorflow as tf\nstrategy = tf.distribute.MultiWorkerMirroredStrategy()\nwith strategy.scope():\n    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])\n    model.compile(optimizer='sgd', loss='mse')\nmodel.fit(tf.zeros((64, 3)), tf.zeros((64, 1)), verbose=0)\n",
            "both.sh": 'export TF_CPP_MIN_LOG_LEVEL=2\nconfig() { echo \'{"cluster": {"worker": ["127.0.0.1:29541", "127.0.0.1:29542"]}, "task": {"type": "worker", "index": \'$1\'}}\'; }\nTF_CONFIG=$(config 1) timeout 100 python train.py > other 2>&1 &\nTF_CONFIG=$(config 0) timeout 100 python train.py\n',
        },
        ("bash", "both.sh"),
    ),
    "tf-value": _py(FIT + "model.fit(tf.zeros((4, 3)), tf.zeros((5, 1)), verbose=0)\n"),
    "transformers-keras": _py(
        "from transformers import TFAutoModel\nTFAutoModel.from_pretrained('x')\n"
    ),
    "horovod-not-built": _py("import horovod.tensorflow as hvd\nhvd.init()\n"),
    "horovod-peer-gone": _py(
        "import os, torch, horovod.torch as hvd\nhvd.init()\nif hvd.rank() == 1:\n    os._exit(0)\nhvd.allreduce(torch.zeros(1))\n",
        "horovodrun",
        "--gloo",
        "-np",
        "2",
        "python",
        "train.py",
    ),
    "horovod-value": _py(
        "import torch, horovod.torch as hvd\nhvd.init()\nif hvd.rank() == 1:\n    raise ValueError('bad sample 17')\nhvd.allreduce(torch.zeros(1))\n",
        "horovodrun",
        "--gloo",
        "-np",
        "2",
        "python",
        "train.py",
    ),
    "horovod-shapes": _py(
        "import torch, horovod.torch as hvd\nhvd.init()\nhvd.allreduce(torch.zeros(1 + hvd.rank()))\n",
        "horovodrun",
        "--gloo",
        "-np",
        "2",
        "python",
        "train.py",
    ),
}
