"""Which host may replace a lost one, and whose outputs count."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.api import jobs
from launcher.records import events as ev
from launcher.records.state import Departure, fold
from launcher.runner import requests
from launcher.runner.files import seeding
from launcher.runner.files.outputs import Listed
from launcher.runner.policy import spares
from launcher.spec.errors import InputError, PlanError
from launcher.spec.model import Facts, Gpu, GpuUser, Host, Inventory, Job, Layout, Node, Resources
from launcher.spec.packed import PackedFiles

HOSTS = tuple(Host(f"gpu{number}") for number in range(1, 6))
JOB = Job(run=("train.py",))


def layout(*sizes: int) -> Layout:
    """Nodes on the first hosts, with so many processes and GPUs each."""
    offsets = [sum(sizes[:place]) for place in range(len(sizes))]
    nodes = (
        Node(host, place, size, offset, gpus=tuple(range(size)))
        for place, (host, size, offset) in enumerate(zip(HOSTS, sizes, offsets, strict=False))
    )
    return Layout("calm-owl", tuple(nodes))


def facts(gpus: int, leased: tuple[int, ...] = ()) -> Facts:
    """Of a host with GPUs, some of them held by somebody."""
    found = tuple(Gpu(index) for index in range(gpus))
    holder = {"user": "ada", "run": "keen-fox"}
    return Facts(
        "gpu5",
        "gpu5",
        "/home/x/.launcher",
        "/usr/bin/python3",
        "3.11",
        8,
        gpus=found,
        leased=dict.fromkeys(leased, holder),
    )


def test_a_spare_takes_gpus_that_nobody_uses_outside_launcher_first() -> None:
    node = layout(2).nodes[0]
    used = replace(facts(4), gpu_users=(GpuUser(0, 42, "bob", "train"),))
    assert spares.in_place_of(node, HOSTS[4], used, JOB, only_idle=True).gpus == (1, 2)
    full = replace(facts(2), gpu_users=(GpuUser(0, 42, "bob", "train"),))
    with pytest.raises(spares.UsedOutside, match=r"gpu5: .* by bob \(pid 42 train\)"):
        spares.in_place_of(node, HOSTS[4], full, JOB, only_idle=True)
    assert spares.in_place_of(node, HOSTS[4], full, JOB).gpus == (0, 1)


def test_spares_are_the_hosts_that_are_not_in_the_run_and_never_were() -> None:
    found = spares.spares(HOSTS, layout(1, 1), {"gpu3"})
    assert [host.name for host in found] == ["gpu4", "gpu5"]


def test_a_spare_gets_the_ranks_and_free_gpus_of_its_own() -> None:
    before = layout(2, 3)
    node = spares.in_place_of(before.nodes[1], HOSTS[4], facts(8, leased=(0, 2)), JOB)
    after = spares.with_node(before, node)
    assert (node.gpus, node.ranks, node.node_rank) == ((1, 3, 4), range(2, 5), 1)
    assert (node.root, node.python) == ("/home/x/.launcher", "/usr/bin/python3")
    assert [n.host.name for n in after.nodes] == ["gpu1", "gpu5"]
    assert after.nodes[0] == before.nodes[0]


@pytest.mark.parametrize(
    ("has", "job"),
    [
        (facts(4, leased=(0, 1)), JOB),  # too few are free
        (facts(2), JOB),  # too few there
        (facts(0), JOB),  # none
        (facts(8), replace(JOB, resources=Resources(gpus=0))),
    ],
)
def test_a_host_without_as_many_free_gpus_is_no_spare(has: Facts, job: Job) -> None:
    with pytest.raises(PlanError, match="gpu5 cannot replace gpu2"):
        spares.in_place_of(layout(3, 3).nodes[1], HOSTS[4], has, job)


def test_a_node_without_gpus_may_go_anywhere() -> None:
    """And uses those that a spare has, as it would have in the beginning, unless it said no."""
    node = replace(layout(2).nodes[0], gpus=())
    assert spares.in_place_of(node, HOSTS[4], facts(0), JOB).gpus == ()
    assert spares.in_place_of(node, HOSTS[4], facts(3), JOB).gpus == (0, 1)
    no_gpus = replace(JOB, resources=Resources(gpus=0))
    assert spares.in_place_of(node, HOSTS[4], facts(3), no_gpus).gpus == ()


@given(st.lists(st.integers(1, 8), min_size=2, max_size=5), st.data())
def test_ranks_close_up_when_a_host_is_gone(sizes: list[int], data: st.DataObject) -> None:
    before = layout(*sizes)
    gone = data.draw(st.sampled_from(before.nodes)).host.name
    after = spares.without(before, gone)
    assert [n.host.name for n in after.nodes] == [
        n.host.name for n in before.nodes if n.host.name != gone
    ]
    assert [n.node_rank for n in after.nodes] == list(range(len(sizes) - 1))
    assert [rank for n in after.nodes for rank in n.ranks] == list(range(after.world_size))
    sizes_of = {n.host.name: (n.local_world_size, n.gpus) for n in before.nodes}
    assert all(sizes_of[n.host.name] == (n.local_world_size, n.gpus) for n in after.nodes)


# -- outputs


def test_the_newest_file_of_each_path_is_given() -> None:
    mirrors = {"a": {"x": (1, 5), "y": (1, 1)}, "b": {"x": (1, 4), "z": (1, 9)}, "c": {"y": (2, 2)}}
    assert spares.newest(mirrors) == {"x": "a", "y": "c", "z": "b"}


def test_what_was_given_is_an_output_of_its_host_only_after_it_was_written_to() -> None:
    given_files = {"x": (1, 5), "y": (1, 5)}
    files = PackedFiles([("x", 1, 5), ("y", 1, 6), ("z", 1, 1)])
    own = seeding.own(Listed(files, PackedFiles(), "/x"), given_files)
    assert list(own.outputs) == [("y", 1, 6), ("z", 1, 1)]
    older = spares.superseded(["x", "y", "z"], {"b": ["y", "z"]}, {"b": given_files, "c": {}})
    assert older == {"y"}, "z was never given: two hosts have written it, and both count"


@pytest.mark.parametrize(
    ("path", "means"),
    [("ckpt/a/b.pt", True), ("a.log", True), ("ckpt2/a", False), ("x/a.txt", False)],
)
def test_paths_that_the_job_names(path: str, means: bool) -> None:
    assert spares.named(path, ("./ckpt/", "*.log")) is means


# -- the state, and whether it goes on

LOST = ev.NodeLost(3.0, "gpu2", "host-unreachable")
AGAIN = ev.RunRestarted(5.0, 1, "host-unreachable")


def test_a_host_that_left_is_no_loss_any_more() -> None:
    replaced = ev.NodeReplaced(4.0, "gpu2", "gpu3", 1, "host-unreachable")
    state = fold([LOST, replaced, AGAIN])
    assert (dict(state.lost), dict(state.departed)) == (
        {},
        {"gpu2": Departure("host-unreachable", "gpu3")},
    )
    reduced = fold([LOST, ev.NodesReduced(4.0, "gpu2", 1, 1, "host-unreachable"), AGAIN])
    assert reduced.departed == {"gpu2": Departure("host-unreachable", "")}


# -- what is said before anything starts


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"min_nodes": 1}, "--min-nodes 1 needs restarts"),
        ({"max_restarts": 1, "min_nodes": 3, "num_nodes": 2}, "more than --nodes 2"),
        ({"max_restarts": 1, "min_nodes": 9}, "more than the 5 hosts there are"),
    ],
)
def test_numbers_that_cannot_be(values: dict[str, Any], said: str) -> None:
    job = jobs.make_job(run=["true"], framework="env", **values)
    for use in (requests.make_request, jobs.dry_run):
        with pytest.raises(InputError, match=said):
            use(job, Inventory(HOSTS))
