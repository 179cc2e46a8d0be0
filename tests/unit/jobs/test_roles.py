"""Roles: what a job file may say of them, where they are placed, and what the end of one means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.jobs import job_file as jobs
from launcher.jobs import planner
from launcher.jobs.layout import make_layout
from launcher.jobs.placement import Capacity, Placed, place
from launcher.jobs.roles import amount, codes
from launcher.records import events as ev
from launcher.records.codec import describe_run, read_run
from launcher.records.state import fold
from launcher.spec.errors import DocumentError, InputError, PlanError
from launcher.spec.model import Facts, Gpu, Host, Layout, Meeting, Plan, Role, Share
from support.jobs import job_of

#: The example of a cluster that Polyaxon's document describes, in our words.
CLUSTER = """
name: ps-training
framework: torch
roles:
  chief:  {replicas: 1, primary: true, resources: {gpus: 1, cpus: 2, memory: 4GiB}}
  worker: {replicas: 7, resources: {gpus: 1}, overrides: {2: {resources: {memory: 8GiB}}}}
  ps:     {replicas: 3, resources: {cpus: 1, memory: 512MiB}}
run: train.py --me {{role}}.{{index}} --ps {{host:ps.1}}
"""
HOSTS = (Host("gpu1", gpus=4, address="10.0.0.1"), Host("gpu2", gpus=4), Host("cpu1", gpus=0))


def plan_of(text: str, *, memory: int = 64, hosts: tuple[Host, ...] = HOSTS) -> Plan:
    """On hosts of 16 cores and this much GiB."""
    job = job_of(text)
    known = {
        h.name: Facts(
            h.name, h.name, "/r", "/usr/bin/python3", "3.11", 16, memory=memory << 30,
            gpus=tuple(Gpu(n) for n in range(h.gpus or 0)),
        )
        for h in hosts
    }  # fmt: skip
    layout = make_layout(job, hosts, known, "r")
    return planner.plan(job, layout, Meeting("10.0.0.1", 29500), "agent")


def who_is_where(layout: Layout) -> dict[str, list[str]]:
    return {node.host.name: [task.key for task in node.tasks] for node in layout.nodes}


# -- a whole cluster


def test_a_cluster_is_packed_and_the_lead_is_first() -> None:
    plan = plan_of(CLUSTER)
    assert who_is_where(plan.layout) == {
        "gpu1": ["chief-0", "worker-0", "worker-1", "worker-2", "ps-0", "ps-1", "ps-2"],
        "gpu2": ["worker-3", "worker-4", "worker-5", "worker-6"],
    }
    processes = {p.key: p for node in plan.nodes for p in node.processes}
    worker, ps = processes["worker-4"], processes["ps-1"]
    assert worker.argv[-4:] == ("--me", "worker.4", "--ps", "10.0.0.1")
    assert worker.env["CUDA_VISIBLE_DEVICES"] == "0,1,2,3", "one GPU each: that of LOCAL_RANK"
    assert (worker.env["RANK"], worker.env["LOCAL_RANK"]) == ("8", "1")
    assert (ps.env["CUDA_VISIBLE_DEVICES"], ps.env["OMP_NUM_THREADS"]) == ("", "1")
    assert processes["chief-0"].env["CUDA_VISIBLE_DEVICES"] == "0"
    assert (ps.env["LAUNCHER_ROLE"], ps.env["LAUNCHER_INDEX"]) == ("ps", "1")


def test_memory_decides_too() -> None:
    plan = plan_of(CLUSTER, memory=12)
    where = who_is_where(plan.layout)
    assert where["gpu1"][:1] == ["chief-0"]
    assert sum(map(len, where.values())) == 11
    with pytest.raises(PlanError, match=r"worker-2 \(1 GPU, 8.0 GiB\) fits on no host") as caught:
        plan_of(CLUSTER, memory=7)
    assert "lower resources:" in caught.value.hint


def test_what_does_not_fit_says_what_would() -> None:
    with pytest.raises(PlanError, match="9 worker") as caught:
        plan_of(CLUSTER.replace("replicas: 7", "replicas: 9"))
    assert caught.value.hint == "worker: {replicas: 7} would fit now"


def test_spread_and_overrides() -> None:
    text = (
        "framework: env\nrun: 'base {{role}} {{rank_offset}} {{local_world_size}}'\nroles:\n"
        "  a: {replicas: 3, spread: true, resources: {gpus: 2}}\n"
        "  b:\n    replicas: 2\n    envs: {A: 1, B: 2}\n"
        "    overrides: {1: {run: [other, x], envs: {B: 3}}}\n"
    )
    plan = plan_of(text, hosts=tuple(Host(f"h{n}", gpus=4) for n in range(4)))
    assert {h: w[0] for h, w in who_is_where(plan.layout).items()} == {
        "h0": "a-0",
        "h1": "a-1",
        "h2": "a-2",
    }
    processes = {p.key: p for node in plan.nodes for p in node.processes}
    assert processes["a-2"].argv[-1].split()[1] == "a"
    assert processes["b-1"].argv == ("other", "x")
    assert {n: processes["b-1"].env[n] for n in "AB"} == {"A": "1", "B": "3"}
    assert processes["a-2"].env["NUM_TRAINERS"] == "2"
    offsets = sorted(
        (int(p.argv[-1].split()[2]), int(p.argv[-1].split()[3]))
        for p in processes.values()
        if len(p.argv) == 3
    )
    assert offsets[0] == (0, 2), "a process of a role counts as a node there"


def test_a_record_gives_the_roles_back() -> None:
    from launcher.spec.model import Inventory, Request

    text = CLUSTER.replace(
        "{replicas: 3,", "{on_exit: {restart: 11-20}, setup: s, run: a b, replicas: 3,"
    )
    plan, job = plan_of(text), job_of(text)
    request = Request(job, Inventory(HOSTS), HOSTS)
    written = json.loads(json.dumps(describe_run(request, plan.layout, 0.0)))
    again, layout = read_run(written)
    assert again.job.roles == job.roles
    assert [n.tasks for n in layout.nodes] == [n.tasks for n in plan.layout.nodes]
    assert layout.host_of("worker-4.out") == "gpu2"
    written["lease"] = 60.0  # as the previous release wrote it
    del written["orphan_timeout"]
    for role in written["job"]["roles"]:
        role["lead"] = role.pop("primary")
    old, _ = read_run(written)
    assert (old.orphan_timeout, old.job.roles) == (60.0, job.roles)


# -- what is said about bad files


ROLE = "run: x\nframework: {framework}\nroles:\n  worker: {{}}\n  {line}\n"


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        ("w: {count: 2}", '5: unknown key "count" in role w', '"replicas"?'),
        ("w: {replica: 2}", '5: unknown key "replica" in role w', '"replicas"?'),
        ("w: {replicas: 0}", "5: roles.w.replicas must be a whole number, 1 or more", ""),
        ("w: {resources: {gpu: 1}}", '5: unknown key "gpu"', '"gpus"?'),
        (
            "w: {resources: {memory: 4 apples}}",
            "roles.w.resources.memory: not an amount of memory: '4 apples'",
            "",
        ),
        ("w: {overrides: {1: {}}}", "5: w has no process 1: its indices are 0 to 0", ""),
        ("w: {overrides: {one: {}}}", '5: "one" is not an index', ""),
        ("w: {on_exit: {again: 3}}", '5: unknown key "again"', "complete, fail, restart"),
        ("w: {on_exit: {fail: 300}}", "5: roles.w.on_exit.fail: not exit codes: '300'", ""),
        ("w: {run: '{{rnk}}'}", "5: unknown placeholder {{rnk}}", '"rank"?'),
        ("rank: {}", '5: "rank" cannot be the name of a role', ""),
        ("w: {envs: {RANK: 1}}", "5: RANK is computed for every process", "leave it out"),
    ],
)
def test_bad_roles(line: str, error: str, hint: str) -> None:
    with pytest.raises(DocumentError) as caught:
        jobs.load(ROLE.format(framework="torch", line=line), "job.yaml")
    assert error in str(caught.value)
    assert hint in caught.value.hint


def test_torchrun_takes_no_roles_and_says_what_does() -> None:
    with pytest.raises(DocumentError, match="takes no roles") as caught:
        jobs.load(ROLE.format(framework="torchrun", line="ps: {}"), "job.yaml")
    assert "framework: torch" in caught.value.hint
    assert job_of("run: x.py\nroles: {a: {}}").framework == "torch", "the default with roles"


def test_roles_and_resources_do_not_go_together() -> None:
    layers = {"file": jobs.load(CLUSTER, "job.yaml"), "flag": {"resources": {"gpus": 4}}}
    with pytest.raises(InputError, match="cannot be combined"):
        jobs.make(layers, {})


def test_amounts_and_codes() -> None:
    said = ("512MiB", "4Gi", "4GB", "1.5 GiB", "100B")
    assert [amount(text) for text in said] == [512 << 20, 4 << 30, 4 * 10**9, 3 << 29, 100]
    assert codes("3, 11-20") == ((3, 3), (11, 20))


# -- what is true of every placement


@st.composite
def casts(draw: st.DrawFn) -> tuple[list[Role], list[Capacity]]:
    shares = st.builds(
        Share,
        gpus=st.integers(0, 3),
        cpus=st.none() | st.integers(1, 4),
        memory=st.none() | st.integers(1, 8),
    )
    roles = [
        Role(
            f"role{n}",
            draw(st.integers(1, 5)),
            draw(shares),
            spread=draw(st.booleans()),
            primary=draw(st.booleans()),
        )
        for n in range(draw(st.integers(1, 3)))
    ]
    capacities = [
        Capacity(
            f"h{n}",
            tuple(sorted(draw(st.sets(st.integers(0, 8), max_size=6)))),
            draw(st.none() | st.integers(1, 8)),
            draw(st.none() | st.integers(1, 16)),
        )
        for n in range(draw(st.integers(1, 5)))
    ]
    return roles, capacities


def placed_or_none(*args: Any) -> tuple[Placed, ...] | None:
    try:
        return place(*args)
    except PlanError:
        return None


@pytest.mark.thorough
@settings(max_examples=150)
@given(casts(), st.booleans())
def test_every_placement(cast: tuple[list[Role], list[Capacity]], own_ranks: bool) -> None:
    roles, capacities = cast
    found = placed_or_none(roles, capacities, None, own_ranks)
    if found is None:
        return
    tasks = [task for placed in found for task in placed.tasks]
    everyone = [(role.name, index) for role in roles for index in range(role.replicas)]
    assert sorted((task.role, task.index) for task in tasks) == sorted(everyone)
    ranks = [rank for task in tasks for rank in range(task.rank, task.rank + task.size)]
    assert ranks == list(range(len(ranks)))
    shares = {role.name: role.resources for role in roles}
    for placed in found:
        capacity = next(capacity for capacity in capacities if capacity.host == placed.host)
        gpus = [gpu for task in placed.tasks for gpu in task.gpus]
        assert len(set(gpus)) == len(gpus) and set(gpus) <= set(capacity.gpus)
        assert all(len(task.gpus) == shares[task.role].gpus for task in placed.tasks)
        for kind in ("cpus", "memory"):
            there = getattr(capacity, kind)
            taken = sum(getattr(shares[task.role], kind) or 0 for task in placed.tasks)
            assert there is None or taken <= there
    first = next((role for role in roles if role.primary), roles[0])
    assert (tasks[0].role, tasks[0].index) == (first.name, 0)
    for role in roles:
        assert [t.index for t in tasks if t.role == role.name] == list(range(role.replicas))
    hosts = [placed.host for placed in found[1:]]
    assert hosts == sorted(hosts)


@settings(max_examples=50)
@given(st.integers(1, 9), st.integers(1, 4))
def test_spread_is_even(replicas: int, hosts: int) -> None:
    capacities = [Capacity(f"h{n}", tuple(range(9))) for n in range(hosts)]
    found = place([Role("a", replicas, Share(1), spread=True)], capacities)
    counts = [len(placed.tasks) for placed in found]
    assert len(found) == min(replicas, hosts) and max(counts) - min(counts) <= 1
    packed = place([Role("a", replicas, Share(1))], capacities)
    assert len(packed) == 1


# -- what the end of a primary makes of others


def ended(
    host: str, key: str, code: int, at: float, primary: int = 0, action: str = ""
) -> list[ev.Event]:
    return [
        ev.ProcessStarted(0.0, host, 0, key, 0, 1, primary=primary, primaries=1),
        ev.ProcessExited(at, host, 0, key, 0, code, action=action),
    ]


PRIMARY, LATE = ended("a", "chief-0", 0, 10.0, primary=1), ended("b", "worker-0", 5, 10.1)
EARLY, BEFORE = ended("b", "worker-0", 5, 8.0), ended("b", "worker-0", 5, 9.4)


@pytest.mark.parametrize(
    ("events", "failed"),
    [
        (PRIMARY + LATE, None),
        (LATE + PRIMARY, None),
        (BEFORE + PRIMARY, None),
        (PRIMARY + EARLY, "worker-0"),
        (EARLY + PRIMARY, "worker-0"),
        (ended("a", "chief-0", 0, 10.0, primary=2) + LATE, "worker-0"),
        (ended("a", "chief-0", 3, 10.0, primary=1, action="complete") + LATE, None),
        (ended("a", "chief-0", 0, 10.0, primary=1, action="fail"), "chief-0"),
    ],
    ids=[
        "after",
        "heard of first",
        "a moment before",
        "before",
        "in order",
        "one of two",
        "complete",
        "fail",
    ],
)
def test_who_has_failed_when_the_primary_role_has_ended(
    events: list[ev.Event], failed: str | None
) -> None:
    failure = fold(events).failure
    assert (failure and failure.key) == failed


def test_the_old_name_of_primary_works_with_a_notice() -> None:
    text = "framework: torch\nrun: a.py\nroles: {chief: {lead: true}, worker: {}}\n"
    with pytest.warns(FutureWarning, match="job.yaml: roles: chief: lead is now called primary"):
        values = jobs.load(text, "job.yaml")
    assert [role.primary for role in values["roles"]] == [True, False]


def _hosts_of(roles: list[Role], hosts: int, count: int | None = None) -> list[list[str]]:
    placed = place(roles, [Capacity(f"n{n}", (), 8) for n in range(hosts)], count)
    return [[one.host, *(f"{task.role}-{task.index}" for task in one.tasks)] for one in placed]


def test_roles_that_are_spread_share_no_host() -> None:
    head, worker = Role("head", spread=True, primary=True), Role("worker", 2, spread=True)
    apart = [["n0", "head-0"], ["n1", "worker-0"], ["n2", "worker-1"]]
    assert _hosts_of([head, worker], 3) == apart
    assert len(_hosts_of([head, worker], 2)) == 2, "as far as there are hosts"
    assert _hosts_of([Role("head"), worker], 2)[0][:2] == ["n0", "head-0"]
    assert len(_hosts_of([Role("head"), worker], 3)) == 2, "head is not spread"


def test_a_number_of_nodes_holds_for_roles() -> None:
    roles = [Role("head", primary=True), Role("worker", 2)]
    assert len(_hosts_of(roles, 3)) == 1
    assert len(_hosts_of(roles, 3, 2)) == 2
    assert len(_hosts_of(roles, 3, 3)) == 3
    with pytest.raises(PlanError, match="--nodes 4: 3 processes cannot be on 4 hosts"):
        _hosts_of(roles, 4, 4)
    both = [Role("head", host="n1"), Role("worker", host="n1")]
    with pytest.raises(PlanError, match="cannot be on 2 hosts"):
        _hosts_of(both, 3, 2)


def test_a_role_may_have_its_host() -> None:
    roles = [Role("head", host="n2", primary=True), Role("worker", 2, spread=True)]
    placed = _hosts_of(roles, 3)
    assert placed[0][:2] == ["n2", "head-0"], "node 0 is that of the first process"
    with pytest.raises(
        PlanError, match=r"roles: head: host: n7 is none of the hosts \(n0, n1, n2\)"
    ):
        _hosts_of([Role("head", host="n7")], 3)
    full = [Role("head", 2, Share(cpus=8), host="n1")]
    with pytest.raises(PlanError, match="do not fit"):
        _hosts_of(full, 3)
