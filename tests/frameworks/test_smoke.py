"""`launcher check --smoke` with frameworks that have an environment of their own."""

from __future__ import annotations

import pytest

from launcher.fleet import inventory_file
from launcher.runner.smoke import smoke
from launcher.spec.model import Job, Resources, Role
from support.command import Launcher

pytestmark = pytest.mark.timeout(300)

MXNET = (Role("scheduler"), Role("server"), Role("worker", replicas=2, spread=True))
PS = (Role("chief"), Role("worker"), Role("ps"))


@pytest.mark.parametrize(
    ("of", "framework", "roles", "said"),
    [
        ("jax", "jax", (), "all-reduces of 17 MB over 2 ranks by JAX (cpu)"),
        ("tensorflow", "tensorflow", PS, "all-reduces of 17 MB over 2 ranks by TensorFlow (cpu)"),
        ("mxnet", "mxnet", MXNET, "pushes and pulls of 17 MB over 2 ranks by MXNet's servers"),
        ("lightning", "lightning", (), "all-reduces of 17 MB over 2 ranks by gloo"),
        ("lightning", "accelerate", (), "all-reduces of 17 MB over 2 ranks by gloo"),
        ("deepspeed", "deepspeed", (), "all-reduces of 17 MB over 2 ranks by gloo"),
    ],
    indirect=["of"],
)
def test_each_adds_up_by_itself(
    of: Launcher,
    monkeypatch: pytest.MonkeyPatch,
    framework: str,
    roles: tuple[Role, ...],
    said: str,
) -> None:
    """What a job's roles would run is no part of it."""
    monkeypatch.setenv("LAUNCHER_HOME", str(of.home))
    run = ("nowhere.py",)
    resources = Resources() if roles else Resources(nproc_per_node=1)
    job = Job(run=run, framework=framework, roles=roles, resources=resources)
    found = smoke(job, inventory_file.load_inventory(of.inventory), ["lab1", "lab2"], seconds=0.2)
    assert found.code == "SMOKE", found
    assert said in found.evidence
