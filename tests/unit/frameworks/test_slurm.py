"""A rank under ``framework: slurm`` finds what srun would tell it."""

from __future__ import annotations

import pytest

from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Meeting, Process
from support.jobs import job_of

HOSTS = [Host(f"h{n}", address=f"10.0.0.{n}", gpus=count) for n, count in enumerate((2, 2, 1))]
JOB = "{framework: slurm, run: train.py, name: big, resources: {gpus: 5}}"


def ranks() -> list[Process]:
    job = job_of(JOB)
    addresses = {host.name: host.address or "" for host in HOSTS}
    meeting = Meeting("10.0.0.0", 29500, {}, addresses)
    plan = planner.plan(job, make_layout(job, HOSTS, {}, "big-otter-1a2b"), meeting, "agent")
    return [process for node in plan.nodes for process in node.processes]


def test_every_rank_has_its_numbers() -> None:
    found = [
        tuple(process.env[f"SLURM_{name}"] for name in ("PROCID", "LOCALID", "NODEID"))
        for process in ranks()
    ]
    assert found == [
        ("0", "0", "0"),
        ("1", "1", "0"),
        ("2", "0", "1"),
        ("3", "1", "1"),
        ("4", "0", "2"),
    ]


def test_all_ranks_agree_on_the_job() -> None:
    first, *others = (process.env for process in ranks())
    expected = {
        "SLURM_NTASKS": "5",
        "SLURM_NNODES": "3",
        "SLURM_STEP_NUM_NODES": "3",
        "SLURM_JOB_NODELIST": "10.0.0.0,10.0.0.1,10.0.0.2",
        "SLURM_STEP_NODELIST": "10.0.0.0,10.0.0.1,10.0.0.2",
        "SLURM_TASKS_PER_NODE": "2(x2),1",
        "SLURM_JOB_NAME": "big",
        "SLURM_STEP_ID": "0",
        "MASTER_ADDR": "10.0.0.0",
        "WORLD_SIZE": "5",
        "JAX_COORDINATOR_ADDRESS": "10.0.0.0:29500",
    }
    for env in (first, *others):
        assert {name: env.get(name) for name in expected} == expected
        assert env["SLURM_JOB_ID"] == first["SLURM_JOB_ID"]
    assert int(first["SLURM_JOB_ID"]) > 0, "JAX makes a port of it"


def test_a_job_may_not_number_its_ranks() -> None:
    with pytest.raises(InputError, match="SLURM_PROCID"):
        job_of(JOB[:-1] + ", envs: {SLURM_PROCID: '1'}}")
