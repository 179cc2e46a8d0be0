"""A run again with other arguments, hosts or GPUs."""

from __future__ import annotations

import pytest

from launcher.jobs import command
from launcher.jobs.layout import make_layout
from launcher.runner.requests import changed, make_request
from launcher.spec.errors import GpusInUse, InputError
from launcher.spec.model import (
    Facts,
    Gpu,
    Host,
    Inventory,
    Job,
    Layout,
    Node,
    Project,
    Request,
    Resources,
    Role,
)

HOSTS = tuple(Host(name) for name in ("a", "b", "c"))
INVENTORY = Inventory(HOSTS)


def _request(job: Job) -> Request:
    return Request(job, INVENTORY, HOSTS)


def _ran(*hosts: Host, sizes: tuple[int, ...] = (), gpus: bool = False) -> Layout:
    """Return where a run was: so many ranks on each host, one by default."""
    nodes = []
    for rank, (host, size) in enumerate(zip(hosts, sizes or [1] * len(hosts), strict=True)):
        nodes.append(Node(host, rank, size, 0, tuple(range(size)) if gpus else ()))
    return Layout("calm-otter-1234", tuple(nodes))


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


def test_an_elastic_run_has_to_fit_its_project_with_the_least_number_of_gpus() -> None:
    inventory = Inventory(HOSTS, projects=(Project("team-a", 4, ("ann",), limit=8),))

    def made(least: int, **more: bool) -> Request:
        job = Job(
            run=("train.py",),
            num_nodes=3,
            elastic=least,
            max_restarts=1,
            resources=Resources(gpus=12),
        )
        return make_request(job, inventory, project="team-a", **more)

    assert made(1).job.resources.gpus == 12
    with pytest.raises(InputError, match="8 GPUs are more than the quota"):
        made(2)
    made(2, preemptible=True)
    with pytest.raises(InputError, match="12 GPUs are more than project team-a may ever have"):
        made(3, preemptible=True)


def test_a_shell_script_and_roles_take_none() -> None:
    with pytest.raises(InputError, match="a shell script"):
        command.with_arguments(("python train.py && true",), True, ("x",))
    with pytest.raises(InputError, match="its roles"):
        command.with_arguments((), False, ("x",))


def test_a_run_again_stays_on_its_hosts() -> None:
    job = Job(("train.py",), num_nodes=2)
    assert changed(_request(job), _ran(*HOSTS[:2])).hosts == HOSTS[:2]
    again = changed(_request(job), _ran(*HOSTS[:2]), ("x",))
    assert (again.hosts, again.job.run) == (HOSTS[:2], ("train.py", "x"))


def test_other_hosts_and_gpus() -> None:
    job = Job(("train.py",), num_nodes=2, hosts="a,b", resources=Resources(nproc_per_node=4))
    there = changed(_request(job), _ran(*HOSTS[:2]), hosts="b,c")
    assert (there.hosts, there.job.num_nodes) == (HOSTS[1:], 2)
    with pytest.raises(InputError, match="only 1 hosts"):
        changed(_request(job), _ran(*HOSTS[:2]), hosts="c")
    with pytest.raises(InputError, match="--hosts"):
        changed(_request(job), _ran(*HOSTS[:2]), hosts="nowhere")
    more = changed(_request(job), _ran(HOSTS[0]), gpus=6)
    assert more.hosts == HOSTS[:2], "of those that the job may use"
    assert (more.job.num_nodes, more.job.resources) == (None, Resources(gpus=6))


def test_gpus_of_roles_are_theirs() -> None:
    job = Job((), roles=(Role("worker", run=("train.py",)),))
    with pytest.raises(InputError, match="roles"):
        changed(_request(job), _ran(*HOSTS), gpus=2)


@pytest.mark.parametrize(
    ("sizes", "hosts", "wanted", "nodes"),
    [
        ((4, 4), None, Resources(nproc_per_node=4), 2),
        ((4, 3), None, Resources(gpus=7), None),
        ((4, 4), "c", Resources(gpus=8), None),
    ],
)
def test_a_run_again_has_as_many_ranks(
    sizes: tuple[int, ...], hosts: str | None, wanted: Resources, nodes: int | None
) -> None:
    """The job said nothing, and the run took what was free: batch sizes and results depend on it."""
    request = _request(Job(("train.py",), hosts="a,b"))
    job = changed(request, _ran(*HOSTS[:2], sizes=sizes, gpus=True), hosts=hosts).job
    assert (job.resources, job.num_nodes) == (wanted, nodes)


def test_a_run_again_with_too_few_free_gpus_is_refused() -> None:
    gpus = tuple(Gpu(index) for index in range(8))
    held = {0: {"user": "ada", "run": "x-1"}, 1: {"user": "ada", "run": "x-1"}}
    known = {"a": Facts("a", "a", "/r", "python3", "3.11", 8, gpus=gpus, leased=held)}
    again = changed(_request(Job(("train.py",))), _ran(HOSTS[0], sizes=(8,), gpus=True))
    with pytest.raises(GpusInUse) as caught:
        make_layout(again.job, again.hosts, known)
    assert "only 6 of 8 GPUs are free; the others are in use by ada (x-1)" in caught.value.message
    assert caught.value.hint == "a rerun keeps the number of ranks; --gpus 6 would fit now"


def test_counts_that_contradict_each_other_are_refused_before_any_host_is_asked() -> None:
    job = Job(("train.py",), num_nodes=2, resources=Resources(gpus=1))
    with pytest.raises(InputError, match="cannot be split evenly over 2 hosts"):
        make_request(job, INVENTORY)


@pytest.mark.parametrize(
    ("job", "says"),
    [
        (Job(run=("t.py",), max_restarts=1), "could not read again"),
        (Job(run=("t.py",), num_nodes=2, elastic=1, max_restarts=1), "could not read again"),
        (Job(run=("t.py",), framework="env", roles=(Role("a"),)), "no rank 0"),
    ],
)
def test_no_input_for_a_rank_that_may_start_again(job: Job, says: str) -> None:
    assert make_request(job, INVENTORY)
    with pytest.raises(InputError, match=says):
        make_request(job, INVENTORY, stdin=True)
