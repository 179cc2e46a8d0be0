"""Frameworks other than torch, each for real in an environment of its own: `make test-frameworks`.

The examples are what is run. How they fail: test_failures.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support import ROOT
from support.command import Launcher, Ran

pytestmark = pytest.mark.timeout(300)


def framework(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("of", [name], indirect=True)


def example(of: Launcher, name: str, *flags: str) -> Ran:
    """An example of the project, as it is."""
    ran = of.run(*flags, str(ROOT / "examples" / name / "job.yaml"), timeout=240)
    assert ran.code == 0, ran.err
    assert len(ran.receipt["hosts"]) == 2
    assert all(host["logs_complete"] and host["left"] == 0 for host in ran.receipt["hosts"])
    return ran


def said(ran: Ran, *logs: str) -> str:
    return b"".join(ran.log(f"{log}.out") for log in logs).decode()


# -- what works


@framework("tensorflow")
def test_parameter_servers(of: Launcher) -> None:
    ran = example(of, "tensorflow_ps")
    assert ran.receipt["reason"] == "primary-exited-0"
    assert "after 20 steps on 2 workers: [2. 1.]" in said(ran, "chief-0")
    assert "serves" in said(ran, "worker-0") and "serves" in said(ran, "worker-1")
    assert [output["path"] for output in ran.receipt["outputs"]] == ["fitted.npy"]


@framework("tensorflow")
def test_mirrored_workers(of: Launcher) -> None:
    ran = example(of, "tensorflow_mirrored")
    words = [said(ran, f"rank-{rank}") for rank in (0, 1)]
    assert ["worker 0 of 2: [2. 1.]" in words[0], "worker 1 of 2: [2. 1.]" in words[1]] == [
        True
    ] * 2


@framework("clusters")
def test_ray_tasks_on_all_hosts(of: Launcher) -> None:
    assert "by 4 cores of 2 hosts" in said(example(of, "ray_pi"), "node-0")


@framework("ray")
def test_ray_train_on_both_hosts(of: Launcher) -> None:
    ran = example(of, "ray_train")
    words = said(ran, "node-0")
    assert "trained by 2 workers on 2 hosts" in words
    assert "model.pt" in [output["path"] for output in ran.receipt["outputs"]]


@framework("ray")
def test_ray_tune_on_both_hosts(of: Launcher) -> None:
    assert "best of 8: x=3 y=0, on 2 hosts" in said(example(of, "ray_tune"), "node-0")


@framework("clusters")
def test_dask_workers_on_all_hosts(of: Launcher) -> None:
    words = "the sum is 328350, by 4 workers on 2 hosts"
    assert words in said(example(of, "dask_sum"), "node-0")


@framework("mxnet")
def test_gluon_over_dist_sync(of: Launcher) -> None:
    ran = example(of, "mxnet_gluon")
    assert ran.receipt["reason"] == "all-ranks-exited-0", "scheduler and server end by themselves"
    lines = said(ran, "worker-0", "worker-1").split("\n")
    assert sorted(filter(None, lines)) == [
        f"worker {rank} of 2: weight 2.0 bias 1.0" for rank in (0, 1)
    ]


@framework("jax")
def test_psum_over_hosts(of: Launcher) -> None:
    ran = example(of, "jax_psum")
    for rank in range(4):
        assert f"process {rank} of 4: the sum is 10" in said(ran, f"rank-{rank}")


@framework("lightning")
@pytest.mark.parametrize("flags", [(), ("--framework", "torchrun")], ids=["lightning", "torchrun"])
def test_lightning(of: Launcher, flags: tuple[str, ...]) -> None:
    ran = example(of, "lightning_toy", *flags)
    for rank in range(4):
        assert f"rank {rank} of 4: loss 0.0" in said(ran, f"rank-{rank}")
    paths = [output["path"] for output in ran.receipt["outputs"]]
    assert "checkpoints/last.ckpt" in paths
    assert any(Path(path).name.startswith("events.out.tfevents") for path in paths)


@framework("lightning")  # accelerate is in the same environment
def test_accelerate(of: Launcher) -> None:
    ran = example(of, "accelerate_toy")
    for rank in range(4):
        assert f"rank {rank} of 4: weight 2.0 bias 1.0" in said(ran, f"rank-{rank}")


@framework("deepspeed")
def test_deepspeed(of: Launcher) -> None:
    ran = example(of, "deepspeed_toy")
    for rank in range(4):
        assert f"rank {rank} of 4: weight 2.0 bias 1.0" in said(ran, f"rank-{rank}")
