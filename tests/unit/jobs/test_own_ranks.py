"""Python scripts that start ranks of their own are found where that is sure."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.api.jobs import make_job
from launcher.jobs.own_ranks import line_of
from launcher.jobs.wrapped_commands import python_script
from launcher.spec.errors import InputError

#: As PyTorch's tutorials have it.
TUTORIAL = """\
import os
import torch.multiprocessing as mp

def setup(rank, world_size):
    os.environ["MASTER_ADDR"] = "localhost"

def train(rank, world_size):
    setup(rank, world_size)

if __name__ == "__main__":
    mp.spawn(train, args=(2,), nprocs=2, join=True)
"""
#: As its ImageNet example has it, and all that began as a copy of that.
IMAGENET = """\
import torch
import torch.multiprocessing as mp

def main():
    args = parser.parse_args()
    if args.seed is not None:
        warnings.warn("slow")
    args.distributed = args.world_size > 1 or args.multiprocessing_distributed
    if args.multiprocessing_distributed:
        mp.spawn(main_worker, nprocs=2, args=(2, args))
    else:
        main_worker(args.gpu, 2, args)

if __name__ == '__main__':
    main()
"""
#: As detectron2, YOLOX and fast-reid have it.
LAUNCH = """\
from detectron2.engine import default_argument_parser, launch

def main(args):
    return Trainer(args).train()

def invoke_main() -> None:
    args = default_argument_parser().parse_args()
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )

if __name__ == "__main__":
    invoke_main()
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (TUTORIAL, 11),
        (LAUNCH, 8),
        (LAUNCH.replace("    launch(", "    engine.launch("), 8),
        (LAUNCH.replace("machine_rank=args.machine_rank", "rank=0"), 0),
        (TUTORIAL.replace("import torch.multiprocessing as mp", "from torch import multiprocessing as mp"), 11),
        (TUTORIAL.replace("import torch.multiprocessing as mp", "import torch").replace("mp.", "torch.multiprocessing."), 11),
        (TUTORIAL.replace("import torch.multiprocessing as mp", "from torch.multiprocessing import spawn").replace("mp.spawn", "spawn"), 11),
        (TUTORIAL.replace("mp.spawn(", "mp.start_processes("), 11),
        ("import torch.multiprocessing as mp\nimport fire\ndef main(n=2):\n    mp.spawn(f, nprocs=n)\nfire.Fire(main)\n", 4),
        (TUTORIAL.replace("    mp.", "    for _ in range(2): mp."), 11),
        (IMAGENET, 0),
        (TUTORIAL.replace("import torch.multiprocessing", "import multiprocessing"), 0),
        (TUTORIAL.replace("    mp.", "    if cuda.device_count() > 1: mp."), 0),
        (TUTORIAL.replace("localhost", "LOCAL_RANK"), 0),
        (TUTORIAL.replace("if __name__", "def unused():\n    mp.spawn(train)\nif __name__").replace("    mp.spawn(train, a", "    go(train, a"), 0),
        ("import torch.multiprocessing as mp\ndef main():\n    if ranks() == 1:\n        return one()\n    mp.spawn(f)\nmain()\n", 0),
        ("import torch.multiprocessing as mp\nif one:\n    exit()\nmp.spawn(f)\n", 0),
        ("mp.spawn(f", 0),
        ("(" * 5000 + "mp.spawn(", 0),
        ("\0mp.spawn(f)", 0),
    ],
)  # fmt: skip
def test_what_is_sure_to_start_ranks_is_found(text: str, line: int) -> None:
    assert line_of(text) == line


def test_what_the_command_asks_for_is_sure() -> None:
    asked = ("main.py", "--dist-url", "tcp://127.0.0.1:2345", "--multiprocessing-distributed")
    assert line_of(IMAGENET, asked) == 10


@pytest.mark.parametrize(
    ("command", "path"),
    [
        ("train.py --epochs 3", "train.py"),
        ("python -u tools/train.py --fast", "tools/train.py"),
        ("python3.11 -W ignore train.py", "train.py"),
        ("uv run train.py", "train.py"),
        ("numactl -N 0 python train.py", "train.py"),
        ("python -m train train.py", ""),
        ("python -c 'import x' train.py", ""),
        ("bash train.sh", ""),
        ("", ""),
    ],
)
def test_the_script_of_a_command(command: str, path: str) -> None:
    assert python_script(tuple(command.split())) == path


def test_a_script_that_counts_machines_is_told_of_them(tmp_path: Path) -> None:
    (tmp_path / "train_net.py").write_text(LAUNCH)
    with pytest.raises(InputError, match=r"train_net\.py, line 8: it starts ranks itself") as error:
        make_job(run=["python", "train_net.py", "--num-gpus", "8"], workdir=tmp_path)
    assert "--machine-rank '{{node_rank}}'" in str(error.value.hint)
