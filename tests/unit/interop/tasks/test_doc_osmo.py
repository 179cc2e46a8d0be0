"""OSMO's workflows become jobs, and its commands are refused with a hint."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from launcher.spec.environments import Environment
from launcher.spec.model import Job, Resources
from support.documents import answered
from support.task_files import OSMO, TASKS, job_of, made, planned


def test_adding_a_task_changes_no_other() -> None:
    """Source: OSMO's "Using PyTorch Distributed (multi-node)", Optional Modifications."""

    def commands(tasks: int) -> list[str]:
        made = planned(
            Job(tuple(shlex.split(OSMO)), framework="env", resources=Resources(gpus=8 * tasks)), 8
        )
        return [shlex.join(node.processes[0].argv) for node in made.nodes]

    assert commands(3)[2] == "python3 /train_dist.py --offset 16 --size 8 --world_size 24"
    assert commands(2) == [c.replace("--world_size 24", "--world_size 16") for c in commands(3)[:2]]


def test_osmo() -> None:
    """Source: OSMO's "Using PyTorch Distributed (multi-node)"."""
    job, notes = made("osmo-pytorch", "osmo")
    master, worker = job.roles
    assert (master.primary, worker.primary, job.max_restarts) == (True, False, 3)
    assert job.environment == Environment(image="nvcr.io/nvidia/pytorch:24.03-py3")
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
        "storage",
        "exec_timeout",
        "in the workdir",
        "INPUT_0",
        "not fetched",
        "output_to: also stores them",
        "HF_TOKEN",
        "credential data",
        "max_restarts",
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


THEIRS = {
    "workflow submit pytorch_dist_training.yaml": "launcher import osmo FILE -o job.yaml, then launcher run",
    "workflow query 1": "launcher show RUN",
    "run workflow.yaml": "launcher import osmo workflow.yaml -o job.yaml",
    "credential set s3 --type DATA --payload access_key_id=A access_key=hunter2": "--from-env",
}


@pytest.mark.parametrize("words", THEIRS)
def test_what_is_called_otherwise_here(words: str, tmp_path: Path) -> None:
    (tmp_path / "workflow.yaml").write_text((TASKS / "osmo-pytorch.yaml").read_text())
    answered(words, THEIRS[words], tmp_path)
