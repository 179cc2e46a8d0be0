"""OSMO's "Using PyTorch Distributed (multi-node)": its workflow and its commands train here."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import lab as labs
import pytest
from conftest import Launcher
from documents import answered
from task_files import TASKS, job_of, made, planned

from launcher.spec.model import Job, Resources

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


#: The command of OSMO's document, which is written once for each task there.
OSMO = "python3 /train_dist.py --offset {{rank_offset}} --size {{local_world_size}} --world_size {{world_size}}"


def test_adding_a_task_changes_no_other() -> None:
    """Source: OSMO's "Using PyTorch Distributed (multi-node)", Optional Modifications."""

    def commands(tasks: int) -> list[str]:
        made = planned(
            Job(tuple(shlex.split(OSMO)), framework="env", resources=Resources(gpus=8 * tasks)), 8
        )
        return [shlex.join(node.processes[0].argv) for node in made.nodes]

    assert commands(3)[2] == "python3 /train_dist.py --offset 16 --size 8 --world_size 24"
    assert commands(2) == [c.replace("--world_size 24", "--world_size 16") for c in commands(3)[:2]]


@pytest.mark.frameworks
def test_osmos_command_trains_on_two_hosts(launcher: Launcher, clean: labs.Lab) -> None:
    name = launcher.script(TRAIN_DIST, "train_dist.py")
    words = OSMO.replace("/train_dist.py", name)
    ran = launcher.run("--nodes", "2", "--nproc-per-node", "2", "--framework", "env", words)
    assert ran.code == 0, ran.err
    said = ran.log("node-0.out") + ran.log("node-1.out")
    lines = sorted(line.decode() for line in said.splitlines())
    assert lines == [f"rank {r} sees [0, 1, 2, 3] on ['lab1', 'lab2']" for r in range(4)]


def test_osmo() -> None:
    """Source: OSMO's "Using PyTorch Distributed (multi-node)"."""
    job, notes = made("osmo-pytorch", "osmo")
    master, worker = job.roles
    assert (master.primary, worker.primary, job.max_restarts) == (True, False, 3)
    assert master.on_exit == {
        "restart": ((11, 20),),
        "complete": ((3, 3),),
        "fail": ((1, 2), (4, 10), (21, 255)),
    }
    nodes = planned(job, 8).nodes
    texts = {p.key: p.argv[-1] for node in nodes for p in node.processes}
    assert texts["master-0"] == (
        "set +e\nexport MASTER_ADDR=10.0.0.1 OUTPUT=~/.launcher/host/runs/r/outputs\nfalse\n"
        "python3 scripts/train_dist.py --offset 0 --size 8 --world_size 16\n"
    ).replace("~/.launcher/host", "/r")
    assert texts["worker-0"] == (
        "python3 scripts/train_dist.py --offset 8 --size 8 --world_size 16"
        " --data \"${INPUT_0}\"'/a b'\n"
    )
    for said in (
        *("storage", "exec_timeout", "image", "in the workdir", "INPUT_0"),
        *("not fetched", "no object store", "HF_TOKEN", "credential data", "max_restarts"),
    ):
        assert said in notes
    assert "hunter2" not in notes


def test_adding_a_task_of_osmo_changes_no_other() -> None:
    def roles(tasks: int) -> dict[str, Any]:
        lines = ["workflow:", "  name: a", "  resources: {default: {gpu: 8}}", "  groups:"]
        lines += ["  - tasks:"]
        for n in range(tasks):
            words = f"python3 /train_dist.py --offset {8 * n} --size 8 --world_size {8 * tasks}"
            lines.append(f"    - {{name: t{n}, command: [sh, -c, '{words}']}}")
        job, _ = job_of("\n".join(lines), "osmo")
        return {role.name: role for role in job.roles}

    two, three = roles(2), roles(3)
    assert two == {name: role for name, role in three.items() if name != "t2"}
    assert "--offset {{rank_offset}} --size {{local_world_size}}" in three["t2"].run[0]


def test_numbers_that_are_not_the_plans_stay() -> None:
    text = (
        "workflow:\n  tasks:\n  - {name: node, command: [a, --size, '4', --world-size=1, --sizes, '1'],"
        ' files: [{path: /etc/x y, contents: "it\'s $A\\n"}, {path: /b}], extra: 1}\n'
    )
    job, notes = job_of(text, "osmo")
    (role,) = job.roles
    assert role.name == "task-node"
    assert role.run[0].endswith("a --size 4 --world-size={{world_size}} --sizes 1\n")
    assert "cat > '/etc/x y' <<'END_OF_FILE'\nit's $A\nEND_OF_FILE\n" in role.run[0]
    for said in (
        "--size 4 stays",
        "/b has no contents",
        "/etc/x y is written",
        "extra",
        "task-node",
    ):
        assert said in notes


def test_a_workflow_of_osmo_trains_on_two_hosts(clean: labs.Lab, launcher: Launcher) -> None:
    """Its document's command, a GPU a task; the script stands where that of its image would be."""
    text = (TASKS / "osmo-pytorch.yaml").read_text()
    text = text.replace("gpu: 8, cpu: 16, memory: 30Gi", "gpu: 1").replace("size 16", "size 2")
    text = text.replace("--size 8", "--size 1").replace('--size, "8"', '--size, "1"')
    text = text.replace('--offset, "8"', '--offset, "1"').replace('--world_size, "16"', '--world_size, "2"')  # fmt: skip
    text = text.replace(', --data, "{{input:0}}/a b"', "")
    launcher.script(TRAIN_DIST, "scripts/train_dist.py")
    launcher.script(text, "workflow.yaml")
    launcher.inventory.write_text(launcher.inventory.read_text().replace("{}", "{gpus: 1}"))
    done = launcher.call("import", "osmo", "workflow.yaml", "-o", "job.yaml")
    assert done.returncode == 0, done.stderr
    launcher.env |= {"HF_TOKEN": "x"}
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    said = ran.log("master-0.out") + ran.log("worker-0.out")
    lines = sorted(line.decode() for line in said.splitlines())
    assert lines == [f"rank {r} sees [0, 1] on ['lab1', 'lab2']" for r in range(2)]


THEIRS = {
    "workflow submit pytorch_dist_training.yaml": "launcher import osmo FILE -o job.yaml, then launcher run",
    "workflow query 1": "launcher show RUN",
    "run workflow.yaml": "launcher import osmo workflow.yaml -o job.yaml",
    "credential set s3": "--secret NAME; the value comes from your environment",
}


@pytest.mark.parametrize("words", THEIRS)
def test_what_is_called_otherwise_here(words: str, tmp_path: Path) -> None:
    (tmp_path / "workflow.yaml").write_text((TASKS / "osmo-pytorch.yaml").read_text())
    answered(words, THEIRS[words], tmp_path)
