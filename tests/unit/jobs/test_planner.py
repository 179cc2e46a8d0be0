"""Who runs what: whole plans as data files in ``cases/plan``, and what is true of every plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.jobs import job_file as jobs
from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.spec import inventory as inventories
from launcher.spec.errors import PlanError
from launcher.spec.model import Facts, Gpu, Host, Job, Layout, Meeting, Plan, Resources
from launcher.spec.nodeset import expand_ranks
from support import CASE_FILES
from support.jobs import job_of

RUN = "calm-otter-1234"
FEW = settings(max_examples=50)
MEETING = Meeting("10.0.0.1", 29500)


def facts(host: str, **known: Any) -> Facts:
    """What a probe could have found; GPUs by their indices."""
    gpus = tuple(Gpu(index) for index in known.pop("gpus", ()))
    defaults = {"root": "/root/.launcher/host", "python": "/usr/bin/python3"}
    return Facts(
        host, hostname=host, python_version="3.11.2", cpus=8, gpus=gpus, **{**defaults, **known}
    )


# -- plans as data files


CASES = sorted((CASE_FILES / "plan").glob("*.yaml"))


def planned(case: dict[str, Any]) -> Plan:
    inventory = inventories.load(case["inventory"], "inventory.yaml")
    job = jobs.make({"file": jobs.load(case["job"], "job.yaml")}, {})
    known = {name: facts(name, **what) for name, what in case.get("facts", {}).items()}
    layout = make_layout(job, inventories.select(inventory, job.hosts), known, RUN)
    return planner.plan(job, layout, Meeting(**case["meeting"]), "agent")


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = yaml.safe_load(path.read_text("utf-8"))
    expect = case["expect"]
    if "error" in expect:
        with pytest.raises(PlanError) as caught:
            planned(case)
        assert expect["error"] in str(caught.value)
        assert expect.get("hint", "") in caught.value.hint
        return
    plan = planned(case)
    assert len(plan.nodes) == len(expect["nodes"])
    for entry, wanted in zip(plan.nodes, expect["nodes"], strict=True):
        node = entry.node
        assert node.host.name == wanted["host"]
        assert set(node.ranks) == expand_ranks(wanted["ranks"])
        assert set(node.gpus) == (expand_ranks(wanted["gpus"]) if "gpus" in wanted else set())
        assert node.python == wanted.get("python", node.python)
        assert node.root == wanted.get("root", node.root)
    processes = {process.key: process for entry in plan.nodes for process in entry.processes}
    for key, argv in expect.get("argv", {}).items():
        assert list(processes[key].argv) == argv
    for key, env in expect.get("env", {}).items():
        assert {name: processes[key].env.get(name) for name in env} == env


# -- what is true of every plan


@st.composite
def clusters(draw: st.DrawFn) -> tuple[tuple[Host, ...], dict[str, Facts]]:
    """Hosts with 0 to 8 GPUs, some of them leased, some hosts not probed."""
    hosts, known = [], {}
    for number in range(draw(st.integers(1, 6))):
        there = draw(st.integers(0, 8))
        host = Host(f"gpu{number}", gpus=draw(st.sampled_from([None, there])))
        if draw(st.booleans()):
            leased = draw(st.sets(st.integers(0, 8)))
            known[host.name] = facts(
                host.name, gpus=range(there), leased={index: {"user": "ada"} for index in leased}
            )
        hosts.append(host)
    return tuple(hosts), known


def optional(low: int, high: int) -> st.SearchStrategy[int | None]:
    return st.none() | st.integers(low, high)


JOBS = st.builds(
    Job,
    run=st.just(("train.py",)),
    num_nodes=optional(1, 7),
    hosts=st.sampled_from([None, "all that are given"]),
    resources=st.builds(Resources, gpus=optional(0, 40), nproc_per_node=optional(1, 9)),
    framework=st.sampled_from(["torch", "torchrun", "env"]),
)


def free(host: Host, known: dict[str, Facts]) -> set[int]:
    there = known.get(host.name)
    if there is None:
        return set(range(host.gpus or 0))
    return {gpu.index for gpu in there.gpus} - set(there.leased)


def layout_or_none(job: Job, hosts: tuple[Host, ...], known: dict[str, Facts]) -> Layout | None:
    try:
        return make_layout(job, hosts, known, RUN)
    except PlanError:
        return None


@pytest.mark.thorough
@FEW
@given(JOBS, clusters())
def test_every_layout(job: Job, cluster: tuple[tuple[Host, ...], dict[str, Facts]]) -> None:
    hosts, known = cluster
    layout = layout_or_none(job, hosts, known)
    if layout is None:
        return
    ranks = [rank for node in layout.nodes for rank in node.ranks]
    assert ranks == list(range(layout.world_size))
    assert [node.node_rank for node in layout.nodes] == list(range(layout.num_nodes))
    places = [hosts.index(node.host) for node in layout.nodes]
    assert places == sorted(set(places))
    for node in layout.nodes:
        assert node.local_world_size >= 1
        assert len(set(node.gpus)) == len(node.gpus)
        assert set(node.gpus) <= free(node.host, known)
        assert not node.gpus or len(node.gpus) == node.local_world_size
    wanted = job.resources
    if wanted.gpus:
        assert sum(len(node.gpus) for node in layout.nodes) == wanted.gpus
    if wanted.gpus == 0:
        assert not any(node.gpus for node in layout.nodes)
    if wanted.nproc_per_node:
        assert {node.local_world_size for node in layout.nodes} == {wanted.nproc_per_node}
    if job.num_nodes:
        assert layout.num_nodes == job.num_nodes


@FEW
@given(st.integers(1, 40), clusters())
def test_gpus_alone(gpus: int, cluster: tuple[tuple[Host, ...], dict[str, Facts]]) -> None:
    hosts, known = cluster
    sizes = sorted((len(free(host, known)) for host in hosts), reverse=True)
    job = Job(("train.py",), resources=Resources(gpus=gpus))
    layout = layout_or_none(job, hosts, known)
    assert (layout is None) == (sum(sizes) < gpus), "it fits exactly when so many are free"
    if layout is None:
        return
    assert layout.world_size == gpus
    fewest = next(count for count in range(len(sizes) + 1) if sum(sizes[:count]) >= gpus)
    assert layout.num_nodes == fewest
    partial = [node for node in layout.nodes if set(node.gpus) != free(node.host, known)]
    assert len(partial) <= 1


@FEW
@given(JOBS, clusters())
def test_every_process(job: Job, cluster: tuple[tuple[Host, ...], dict[str, Facts]]) -> None:
    hosts, known = cluster
    layout = layout_or_none(job, hosts, known)
    if layout is None:
        return
    plan = planner.plan(job, layout, MEETING, "agent", attempt=2)
    processes = [process for entry in plan.nodes for process in entry.processes]
    assert len({process.key for process in processes}) == len(processes)
    assert {process.env["LAUNCHER_ATTEMPT"] for process in processes} == {"2"}
    if job.framework == "torch":
        assert [process.rank for process in processes] == list(range(layout.world_size))
        assert [process.env["RANK"] for process in processes] == [str(p.rank) for p in processes]
        return
    assert len(processes) == layout.num_nodes
    for node, process in zip(layout.nodes, processes, strict=True):
        if job.framework == "torchrun":
            assert f"--node-rank={node.node_rank}" in process.argv
            assert f"--nproc-per-node={node.local_world_size}" in process.argv
        else:
            assert process.env["RANK"] == process.env["NODE_RANK"] == str(node.node_rank)
            assert process.env["NUM_TRAINERS"] == str(node.local_world_size)


NAMES = st.sampled_from(
    [
        "RANK",
        "LOCAL_RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "CUDA_VISIBLE_DEVICES",
        "LAUNCHER_RUN_ID",
        "LAUNCHER_OUTPUT_DIR",
        "LAUNCHER_NODE_RANK",
    ]
)


@FEW
@given(*[st.dictionaries(NAMES, st.sampled_from(["", "0", "9"]))] * 2)
def test_computed_variables_win(of_host: dict[str, str], of_job: dict[str, str]) -> None:
    """The inventory's CUDA_VISIBLE_DEVICES is no exception: it bounds what is computed."""
    of_host.pop("CUDA_VISIBLE_DEVICES", None)
    plain = Host("gpu1", gpus=2)
    chatty = Host("gpu1", gpus=2, env=of_host)
    envs = []
    for host, given_envs in ((plain, {}), (chatty, of_job)):
        job = Job(("train.py",), framework="torch", envs=given_envs)
        plan = planner.plan(job, make_layout(job, [host], {}, RUN), MEETING, "agent")
        envs.append([process.env for process in plan.nodes[0].processes])
    assert envs[0] == envs[1]


# -- where hosts can meet


@pytest.mark.parametrize(
    ("job", "host", "known", "alone", "candidates"),
    [
        ({"master_addr": "10.9.9.9"}, {}, {}, False, ("10.9.9.9",)),
        ({}, {}, {"ssh_address": "10.0.0.5"}, True, ("127.0.0.1",)),
        (
            {},
            {"interface": "ib0", "address": "10.0.0.7"},
            {"ssh_address": "10.0.0.5"},
            False,
            ("192.168.0.1", "10.0.0.5", "10.0.0.7", "10.0.0.1", "fd81::1"),
        ),
        (
            {},
            {"address": "gpu1.lab"},
            {"ssh_address": "fe80::1"},
            False,
            ("10.0.0.1", "192.168.0.1", "fd81::1"),
        ),
        (
            {},
            {"address": "fd81::2", "interface": "ib1"},
            {"ssh_address": "fd81::2"},
            False,
            ("fd82::1", "10.0.0.1", "192.168.0.1", "fd81::2", "fd81::1"),
        ),
        (
            {},
            {},
            {"ssh_address": "127.0.0.1"},
            False,
            ("127.0.0.1", "10.0.0.1", "192.168.0.1", "fd81::1"),
        ),
    ],
    ids=[
        "the user's word",
        "alone",
        "best first",
        "no names, no link-local",
        "IPv6 is last",
        "hosts of a sandbox were reached at loopback",
    ],
)
def test_master_candidates(
    job: dict[str, Any],
    host: dict[str, Any],
    known: dict[str, Any],
    alone: bool,
    candidates: tuple[str, ...],
) -> None:
    addresses = (("eth0", "10.0.0.1"), ("ib0", "192.168.0.1"), ("eth0", "fd81::1"))
    addresses += (("ib1", "fd82::1"),) if host.get("interface") == "ib1" else ()
    found = planner.master_candidates(
        Job(("train.py",), **job),
        Host("gpu1", **host),
        facts("gpu1", addresses=addresses, **known),
        alone,
    )
    assert found == candidates


FOUR, SIX, BOTH, NONE = (
    (("eth0", "10.0.0.1"), ("lo", "127.0.0.1")),
    (("eth0", "fd81::1"), ("lo", "127.0.0.1")),
    (("eth0", "10.0.0.1"), ("eth0", "fd81::1")),
    (("lo", "127.0.0.1"),),
)


@pytest.mark.parametrize(
    ("hosts", "framework", "found"),
    [
        ((FOUR, FOUR), "torch", {4}),
        ((SIX, SIX), "torch", {6}),
        ((BOTH, SIX), "torchrun", {6}),
        ((BOTH, BOTH), "mxnet", {4}),
        ((NONE, NONE), "torch", {4}),
        (
            (FOUR, BOTH, SIX, SIX),
            "torch",
            "the hosts cannot reach each other: IPv4 alone on gpu1, IPv6 alone on gpu[3-4]",
        ),
        ((BOTH, SIX), "mxnet", "mxnet needs IPv4, which is missing on gpu2"),
        ((SIX, SIX), "horovod", "horovod needs IPv4, which is missing on gpu[1-2]"),
    ],
)
def test_the_versions_of_ip_that_all_hosts_share(
    hosts: tuple[Any, ...], framework: str, found: set[int] | str
) -> None:
    job = Job(("train.py",), framework=framework)
    known = [facts(f"gpu{n}", addresses=each) for n, each in enumerate(hosts, 1)]
    if isinstance(found, set):
        assert planner.shared_versions(job, known) == found
        return
    with pytest.raises(PlanError) as caught:
        planner.shared_versions(job, known)
    assert caught.value.message == found


def test_python_of_the_host_is_first_on_path() -> None:
    host = Host("gpu1", python="/opt/conda/bin/python")
    job = Job(("train.py",))
    node = make_layout(job, [host], {}).nodes[0]
    assert planner.search_path(job, node, "r") == ("~/.launcher/host/runs/r/bin", "/opt/conda/bin")


@pytest.mark.parametrize(
    "text",
    [
        "framework: env\nnum_nodes: 2\nresources: {nproc_per_node: 999999999}\nrun: x\n",
        "framework: env\nroles: {worker: {replicas: 999999999}}\nrun: x\n",
        "framework: env\nroles: {a: {replicas: 16000}, b: {replicas: 16000}}\nrun: x\n",
    ],
)
def test_a_count_that_would_fill_the_memory_is_refused(text: str) -> None:
    job = job_of(text)
    with pytest.raises(PlanError, match="processes are more than a run may have"):
        make_layout(job, (Host("a", gpus=0), Host("b", gpus=0)), {})
