"""A run again with other arguments, hosts or GPUs."""

from __future__ import annotations

import pytest

from launcher.jobs import command
from launcher.runner.requests import changed
from launcher.spec.errors import InputError
from launcher.spec.model import Host, Inventory, Job, Request, Resources, Role

HOSTS = tuple(Host(name) for name in ("a", "b", "c"))
INVENTORY = Inventory(HOSTS)


def _request(job: Job) -> Request:
    return Request(job, INVENTORY, HOSTS)


@pytest.mark.parametrize(
    ("run", "kept"),
    [
        ("train.py --lr 0.1", "train.py"),
        ("python train.py x", "python train.py"),
        ("/opt/venv/bin/python3 -u train.py x", "/opt/venv/bin/python3 -u train.py"),
        ("python -m pkg.train x", "python -m pkg.train"),
        ("-m pkg.train x", "-m pkg.train"),
        ("./train.sh a b", "./train.sh"),
    ],
)
def test_new_arguments_take_the_place_of_those_of_the_script(run: str, kept: str) -> None:
    new = command.with_arguments(tuple(run.split()), False, ("--lr", "0.2 x"))
    assert new == (*kept.split(), "--lr", "0.2 x")


def test_a_shell_script_and_roles_take_none() -> None:
    with pytest.raises(InputError, match="a shell script"):
        command.with_arguments(("python train.py && true",), True, ("x",))
    with pytest.raises(InputError, match="its roles"):
        command.with_arguments((), False, ("x",))


def test_a_run_again_stays_on_its_hosts() -> None:
    job = Job(("train.py",), num_nodes=2)
    assert changed(_request(job), HOSTS[:2]).hosts == HOSTS[:2]
    again = changed(_request(job), HOSTS[:2], ("x",))
    assert (again.hosts, again.job.run) == (HOSTS[:2], ("train.py", "x"))


def test_other_hosts_and_gpus() -> None:
    job = Job(("train.py",), num_nodes=2, hosts="a,b", resources=Resources(nproc_per_node=4))
    there = changed(_request(job), HOSTS[:2], hosts="b,c")
    assert (there.hosts, there.job.num_nodes) == (HOSTS[1:], 2)
    with pytest.raises(InputError, match="only 1 hosts"):
        changed(_request(job), HOSTS[:2], hosts="c")
    with pytest.raises(InputError, match="--hosts"):
        changed(_request(job), HOSTS[:2], hosts="nowhere")
    more = changed(_request(job), HOSTS[:1], gpus=6)
    assert more.hosts == HOSTS[:2], "of those that the job may use"
    assert (more.job.num_nodes, more.job.resources) == (None, Resources(gpus=6))


def test_gpus_of_roles_are_theirs() -> None:
    job = Job((), roles=(Role("worker", run=("train.py",)),))
    with pytest.raises(InputError, match="roles"):
        changed(_request(job), HOSTS, gpus=2)
