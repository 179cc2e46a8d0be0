"""Frameworks other than torch, each for real in an environment of its own: `make test-frameworks`.

The examples are what is run. Each framework is broken once as well: a rank that dies, a peer that
never comes, SIGTERM that is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import environments
import lab as labs
import pytest
from conftest import ROOT, Launcher, Ran

pytestmark = [pytest.mark.frameworks, pytest.mark.timeout(300)]

SPECS = (
    labs.HostSpec("lab1", interface="eth0", own_name="127.0.1.1"),
    labs.HostSpec("lab2", interface="enp3s0", own_name="127.0.0.1"),
)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Two real hosts that share the environments there are."""
    reason = labs.missing()
    if reason:
        pytest.skip(f"no lab of real hosts here: {reason}")
    folders = [environments.folder(name) for name in environments.PINS]
    share = [folder for folder in folders if folder.exists()]
    with labs.Lab(SPECS, tmp_path_factory.mktemp("lab"), share=share) as standing:
        yield standing


@pytest.fixture
def of(lab: labs.Lab, launcher: Launcher, clean: labs.Lab, request: pytest.FixtureRequest) -> Launcher:
    """The command, with an inventory whose Python has the test's framework."""
    name = request.param
    if reason := environments.missing(name):
        pytest.skip(reason)
    python = environments.folder(name) / "bin" / "python"
    inventory = launcher.inventory.with_name(f"{name}.yaml")
    inventory.write_text(labs.inventory(lab, str(python)))
    return replace(launcher, inventory=inventory)


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
    assert ran.receipt["reason"] == "lead-exited-0"
    assert "after 20 steps on 2 workers: [2. 1.]" in said(ran, "chief-0")
    assert "serves" in said(ran, "worker-0") and "serves" in said(ran, "worker-1")
    assert [output["path"] for output in ran.receipt["outputs"]] == ["fitted.npy"]


@framework("tensorflow")
def test_mirrored_workers(of: Launcher) -> None:
    ran = example(of, "tensorflow_mirrored")
    words = [said(ran, f"rank-{rank}") for rank in (0, 1)]
    assert ["worker 0 of 2: [2. 1.]" in words[0], "worker 1 of 2: [2. 1.]" in words[1]] == [True] * 2


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
