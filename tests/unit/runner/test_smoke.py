"""The job that `check --smoke` makes of a user's job."""

from __future__ import annotations

import pytest

from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.runner.smoke import job_of
from launcher.spec.model import Host, Meeting, Plan
from support.jobs import job_of as written

HOSTS = [Host("gpu1", gpus=4), Host("gpu2", gpus=2)]
ROLES = """
framework: {}
run: train.py
roles: {{worker: {{replicas: 3, run: own.py, resources: {{gpus: 1}}}}, ps: {{run: other.py}}}}
"""


def plan_of(text: str) -> Plan:
    """What a smoke run of that job on both hosts would start."""
    job = job_of(written(text), ["gpu1", "gpu2"], 10.0)
    assert job is not None
    return planner.plan(job, make_layout(job, HOSTS, {}), Meeting("10.0.0.1", 29500), "agent")


@pytest.mark.parametrize("framework", ["tensorflow", "torch", "env", "jax"])
def test_roles_are_left_out_with_what_they_would_run(framework: str) -> None:
    text = ROLES.format(framework)
    if framework != "tensorflow":
        text = text.replace("ps:", "server:")
    plan = plan_of(text)
    words = [" ".join(process.argv) for node in plan.nodes for process in node.processes]
    assert [node.node.host.name for node in plan.nodes] == ["gpu1", "gpu2"]
    assert all("with_" in text for text in words), words


def test_mxnet_gets_a_server_and_a_worker_a_host() -> None:
    plan = plan_of(
        "framework: mxnet\nrun: x.py\nroles: {scheduler: , server: , worker: {run: y.py}}"
    )
    keys = [[process.key for process in node.processes] for node in plan.nodes]
    assert keys == [["scheduler-0", "server-0", "worker-0"], ["server-1", "worker-1"]]


def test_hosts_with_different_numbers_of_gpus() -> None:
    """As the job itself has them."""
    plan = plan_of("run: train.py\nresources: {gpus: 6}")
    assert [node.node.local_world_size for node in plan.nodes] == [4, 2]
