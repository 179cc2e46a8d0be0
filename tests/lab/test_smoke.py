"""`launcher check --smoke`: the job's own library adds up over real hosts; what is no failure."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from launcher import frameworks
from launcher.api import jobs
from launcher.fleet import inventory_file
from launcher.fleet.findings import Finding
from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.runner.smoke import job_of, smoke
from launcher.spec.model import Host, Meeting, Plan
from support import lab as labs
from support.command import Launcher
from support.jobs import job_of as written


@pytest.fixture
def tried(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> Launcher:
    """The command with its records where smoke() in this process will look for them."""
    monkeypatch.setenv("LAUNCHER_HOME", str(launcher.home))
    launcher.script("raise SystemExit('no part of a smoke run')")
    return launcher


def short(tried: Launcher, framework: str) -> Finding:
    """A `--smoke` of a job of that framework on two hosts, some tenths of a second long."""
    job = jobs.make_job(run="train.py", workdir=str(tried.work), framework=framework)
    inventory = inventory_file.load_inventory(tried.inventory)
    return smoke(job, inventory, ["lab1", "lab2"], seconds=0.2)


def need(*names: str) -> None:
    """Skips a test without these modules or programs."""
    for name in names:
        if importlib.util.find_spec(name) is None and shutil.which(name) is None:
            pytest.skip(f"no {name} here")


@pytest.mark.parametrize(
    ("framework", "by", "needs"),
    [
        ("env", "gloo", ()),
        ("horovod-direct", "Horovod (gloo)", ("horovod",)),
        ("mpi", "MPI", ("mpi4py", "mpirun")),
    ],
)
def test_it_adds_up(
    tried: Launcher, clean: labs.Lab, framework: str, by: str, needs: tuple[str, ...]
) -> None:
    need(*needs)
    found = short(tried, framework)
    assert found.code == "SMOKE", found
    assert f"all-reduces of 17 MB over 2 ranks by {by}, " in found.evidence
    assert re.match(r"[1-9][\d.]* [MG]bit/s on the bus", found.evidence)


def test_a_failure_says_why(tried: Launcher, clean: labs.Lab) -> None:
    tried.inventory.write_text(labs.inventory(clean, "/usr/bin/python3"))
    found = smoke(None, inventory_file.load_inventory(tried.inventory), ["lab1"], seconds=0.2)
    assert found.code == "SMOKE-FAILED"
    assert "torch" in found.evidence
    assert found.fix


@pytest.mark.parametrize("framework", ["torchrun", "torch"])
def test_what_a_setup_may_bring_is_no_failure(
    tried: Launcher, clean: labs.Lab, framework: str
) -> None:
    """The same hosts without torch, with a job whose setup would install it: nothing is wrong yet."""
    tried.inventory.write_text(labs.inventory(clean, "/usr/bin/python3"))
    job = written(f"run: train.py\nsetup: pip install torch\nframework: {framework}")
    found = smoke(job, inventory_file.load_inventory(tried.inventory), ["lab1"], seconds=0.2)
    assert (found.code, found.level) == ("SMOKE-UNTRIED", "warning"), found
    assert "torch" in found.evidence
    assert "setup:" in found.fix


def test_a_job_of_mpi_need_not_know_mpi4py(tried: Launcher, clean: labs.Lab) -> None:
    need("mpirun")
    tried.inventory.write_text(labs.inventory(clean, "/usr/bin/python3"))
    found = short(tried, "mpi")
    assert (found.code, found.level) == ("SMOKE-UNTRIED", "warning"), found
    assert "a host lacks mpi4py" in found.evidence
    assert found.fix


HOSTS = [Host("gpu1", gpus=4), Host("gpu2", gpus=2)]


def plan_of(text: str) -> Plan:
    """What a smoke run of that job on both hosts would start."""
    job = job_of(written(text), ["gpu1", "gpu2"], 10.0)
    assert job is not None
    return planner.plan(job, make_layout(job, HOSTS, {}), Meeting("10.0.0.1", 29500), "agent")


@pytest.mark.parametrize("name", frameworks.names())
def test_every_framework_has_its_script_or_says_that_there_is_none(
    tried: Launcher, name: str
) -> None:
    roles = frameworks.get(name).name == "mxnet"
    text = f"run: train.py\nframework: {name}\nresources: {{nproc_per_node: 2}}\nnum_nodes: 2"
    if roles:
        text = f"run: train.py\nframework: {name}\nroles: {{scheduler: , server: , worker: }}"
    job = job_of(written(text), ["gpu1", "gpu2"], 10.0)
    if frameworks.get(name).allreduce is None:
        assert job is None
        inventory = inventory_file.load_inventory(tried.inventory)
        found = smoke(written(text), inventory, ["lab1", "lab2"])
        assert (found.code, found.level) == ("SMOKE-UNTRIED", "warning")
        assert f"framework {name}" in found.evidence
        assert not (tried.home / "runs").exists(), "nothing was started"
        return
    assert job is not None
    (script,) = re.findall(r"with_\w+\.py", " ".join(job.run))
    assert (Path(job.workdir) / script).is_file()
    processes = [p for node in plan_of(text).nodes for p in node.processes]
    assert any(script in " ".join(process.argv) for process in processes)
