"""OSMO's "Using PyTorch Distributed (multi-node)": its workflow and its commands train here."""

from __future__ import annotations

import pytest

from support import lab as labs
from support.command import Launcher
from support.task_files import OSMO, TASKS

TRAIN_DIST = """
import argparse, os
import torch.distributed as dist, torch.multiprocessing as mp

def train(local, args):
    dist.init_process_group("gloo", rank=args.offset + local, world_size=args.world_size)
    rank = dist.get_rank()
    got = [None] * args.world_size
    dist.all_gather_object(got, (os.environ["LAUNCHER_HOST"], rank))
    said = f"rank {rank} sees {sorted(r for _, r in got)} on {sorted({h for h, _ in got})}\\n"
    os.write(1, said.encode())  # at once: they share an output
    dist.destroy_process_group()

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("offset", "size", "world_size"):
        parser.add_argument("--" + name, type=int)
    args = parser.parse_args()
    mp.spawn(train, (args,), args.size)
"""


@pytest.mark.frameworks
def test_osmos_command_trains_on_two_hosts(launcher: Launcher, clean: labs.Lab) -> None:
    name = launcher.script(TRAIN_DIST, "train_dist.py")
    words = OSMO.replace("/train_dist.py", name)
    ran = launcher.run("--nodes", "2", "--nproc-per-node", "2", "--framework", "env", words)
    assert ran.code == 0, ran.err
    said = ran.log("node-0.out") + ran.log("node-1.out")
    lines = sorted(line.decode() for line in said.splitlines())
    assert lines == [f"rank {r} sees [0, 1, 2, 3] on ['lab1', 'lab2']" for r in range(4)]


def test_a_workflow_of_osmo_trains_on_two_hosts(clean: labs.Lab, launcher: Launcher) -> None:
    """Its document's command, a GPU a task; the script stands where that of its image would be."""
    text = (TASKS / "osmo-pytorch.yaml").read_text()
    text = text.replace("gpu: 8, cpu: 16, memory: 30Gi", "gpu: 1").replace("size 16", "size 2")
    text = text.replace("--size 8", "--size 1").replace('--size, "8"', '--size, "1"')
    text = text.replace('--offset, "8"', '--offset, "1"').replace(
        '--world_size, "16"', '--world_size, "2"'
    )
    text = text.replace(', --data, "{{input:0}}/a b"', "")
    launcher.script(TRAIN_DIST, "scripts/train_dist.py")
    launcher.script(text, "workflow.yaml")
    launcher.inventory.write_text(launcher.inventory.read_text().replace("{}", "{gpus: 1}"))
    done = launcher.call("import", "osmo", "workflow.yaml", "-o", "job.yaml")
    assert done.returncode == 0, done.stderr
    launcher.env |= {"HF_TOKEN": "x"}
    ran = launcher.run("--image", "none", "job.yaml")  # no registry is reached from here
    assert ran.code == 0, ran.err
    said = ran.log("master-0.out") + ran.log("worker-0.out")
    lines = sorted(line.decode() for line in said.splitlines())
    assert lines == [f"rank {r} sees [0, 1] on ['lab1', 'lab2']" for r in range(2)]
