"""What tests of other systems' task files share: the job that a file becomes, and its plan."""

from __future__ import annotations

from typing import Any

from launcher.interop import tasks
from launcher.jobs import job_file as jobs
from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.spec.model import Facts, Host, Job, Meeting, Plan
from support import CASE_FILES

TASKS = CASE_FILES / "tasks"
MIB = 1 << 20


def made(name: str, form: str) -> tuple[Job, str]:
    """Return the job that a file becomes, and all notes."""
    return job_of((TASKS / f"{name}.yaml").read_text(), form)


def loaded(text: str, form: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the content of the job file that a text becomes, and its notes; check that it has them all."""
    ours, notes = tasks.read(text, "theirs", form)
    assert all(f"#   {note}\n" in ours for note in notes)
    return jobs.load(ours, "ours"), notes


def job_of(text: str, form: str) -> tuple[Job, str]:
    """Return the job that a text becomes, and all notes as one text."""
    values, notes = loaded(text, form)
    return jobs.make(
        {"file": values}, {"HF_TOKEN": "1", "TOKEN": "2", "WANDB_API_KEY": "3"}
    ), "\n".join(notes)


def planned(job: Job, gpus: int) -> Plan:
    hosts = tuple(Host(f"gpu{n}", gpus=gpus, address=f"10.0.0.{n}") for n in (1, 2, 3))
    known = {h.name: Facts(h.name, h.name, "/r", "python3", "3.11", 64) for h in hosts}
    return planner.plan(job, make_layout(job, hosts, known, "r"), Meeting("10.0.0.1", 29500), "a")


def shares(job: Job, role: str) -> list[tuple[int, Any, Any]]:
    found = job.role(role)
    every = [found.at(index).resources for index in range(found.replicas)]
    return [(s.gpus, s.cpus, s.memory and s.memory // MIB) for s in every]


#: The command of OSMO's document, which is written once for each task there.
OSMO = "python3 /train_dist.py --offset {{rank_offset}} --size {{local_world_size}} --world_size {{world_size}}"


SKYPILOT = """\
name: minGPT ddp
resources:
    accelerators: A100:8
    infra: ssh/my-cluster
    use_spot: true
num_nodes: 2
workdir: ~/code
envs: {LR: 0.1, WANDB: , NODE_RANK: 3}
secrets: {HF_TOKEN: null, OTHER: abc123}
file_mounts:
    /data: s3://bucket
setup: |
    pip install -r req.txt

    true
run: |
    MASTER_ADDR=$(echo "$SKYPILOT_NODE_IPS" | head -n1)
    false
    echo sky $SKYPILOT_NODE_RANK/$SKYPILOT_NUM_NODES $(echo "$SKYPILOT_NODE_IPS" | wc -l) "$LR"
    test "$MASTER_ADDR" = "$(printenv MASTER_ADDR)" && echo same master
    echo all of them: "$(echo "$SKYPILOT_NODE_IPS" | tr '\\n' ' ')"
"""
