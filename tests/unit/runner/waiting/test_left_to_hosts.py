"""What several hosts are given to start a run together is what its launcher would have sent."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from launcher.agent.supervisor.gang.ways import start_of, ways_of
from launcher.agent.supervisor.requests import checked
from launcher.agent.supervisor.template import filled_together
from launcher.jobs.layout import make_layout
from launcher.records import events as ev
from launcher.runner.launch import Launch
from launcher.runner.policy import turn
from launcher.runner.policy.turn import layouts_of
from launcher.runner.waiting import left_to_hosts
from launcher.runner.waiting.ways import AnyWay, Way, number_of_ways, on
from launcher.spec.errors import BadAnswer
from launcher.spec.model import Facts, Gpu, Host, Job, Meeting, Resources
from launcher.transport.answers.queue import Turns

HOSTS = (Host("gpu1"), Host("gpu2"))
GPUS = tuple(Gpu(index, uuid=f"GPU-{index}") for index in range(4))
FACTS = {
    host.name: Facts(host.name, host.name, "/r", "python3", "3.11", 8, gpus=GPUS) for host in HOSTS
}
ADDRESSES = {"gpu1": "10.0.0.1", "gpu2": "10.0.0.2"}
MET = ev.WaitsOnHosts(1.0, "gpu1", ("gpu1", "gpu2"), "10.0.0.1", {}, ADDRESSES)


#: Of a run without a project.
WITNESSES: Any = SimpleNamespace()


def launch(framework: str, ports: tuple[int, int] = (20_000, 32_000)) -> Launch:
    job = Job(
        run=("train.py", "--port={{master_port}}"),
        framework=framework,
        resources=Resources(gpus=8),
        master_port=ports,
    )
    request = SimpleNamespace(
        stdin=False,
        job=job,
        columns=None,
        time_limit=None,
        check=False,
        ignore_foreign=False,
        preemptible=False,
    )
    context: Any = SimpleNamespace(job=job, request=request, events=[])
    sessions: Any = [
        SimpleNamespace(name=host.name, host=host, facts=FACTS[host.name]) for host in HOSTS
    ]
    return Launch(context, sessions, make_layout(job, HOSTS, FACTS, "mine"), 0)


@pytest.mark.parametrize(
    "framework", ["torchrun", "torch", "env", "jax", "tensorflow", "slurm", "deepspeed"]
)
def test_all_are_left_to_hosts(framework: str) -> None:
    assert left_to_hosts.is_possible(launch(framework))


def test_a_run_whose_time_goes_on_is_left_to_hosts() -> None:
    """It has begun, and may have to wait again."""
    made = launch("torchrun")
    made.context.request.time_limit = 100.0  # type: ignore[misc]
    made.context.events.append(ev.AllStarted(time.time(), 0))  # type: ignore[attr-defined]
    assert left_to_hosts.is_possible(made)


def test_a_run_with_few_ports_is_not_left_to_hosts() -> None:
    """They keep one of them while they wait."""
    assert not left_to_hosts.is_possible(launch("torchrun", (29_500, 29_500)))


def test_voters_are_told_who_they_are_and_where_each_listens() -> None:
    made = launch("torchrun")
    told = {"gpu1": {"gang": {"key": "k"}}, "gpu2": {"gang": {"key": "k"}}}
    voters = ["gpu1", "gpu2", "gpu3"]
    with_them = left_to_hosts.with_voters(told, made, voters, {"old"})
    assert with_them.keys() == told.keys()
    for one in with_them.values():
        assert (one["gang"]["voters"], one["gang"]["key"], one["void"]) == (voters, "k", ["old"])
        assert one["gang"]["places"].keys() == {"gpu1", "gpu2"}, (
            "one that does not answer is called later"
        )


def test_hosts_of_an_earlier_version_are_told_the_number_of_the_attempt() -> None:
    """They would take a token for it."""
    made = launch("torchrun")
    place: Any = SimpleNamespace(
        wait_left=lambda: None,
        for_hosts=lambda: None,
        may_return=True,
        membership=SimpleNamespace(rules={}),
        ticket_for=lambda host: {"number": 1, "hosts": 2, "shares": [4, 4]},
    )
    meeting = Meeting("10.0.0.1", 25_000, {}, ADDRESSES)
    for returns in (False, True):
        ways, more = [Way(made, meeting)], (place, WITNESSES)
        told = left_to_hosts.requests(made, ways, meeting, "key", *more, returns)["gpu1"]
        assert ("attempt" in told, told["start"]["attempt"] > 0) == (returns, returns)


@pytest.mark.parametrize("framework", ["torchrun", "deepspeed"])
def test_hosts_fill_in_what_the_plan_says_that_follows_from_their_journals(framework: str) -> None:
    made = launch(framework)
    place: Any = SimpleNamespace(
        wait_left=lambda: None,
        for_hosts=lambda: None,
        may_return=False,
        membership=SimpleNamespace(rules={}),
        ticket_for=lambda host: {"number": 1, "hosts": 2, "shares": [4, 4]},
    )
    meeting = Meeting("10.0.0.1", 25_000, {}, ADDRESSES)
    told = left_to_hosts.requests(
        made, [Way(made, meeting)], meeting, "key", place, WITNESSES, True
    )
    assert [checked(one) for one in told.values()] == ["gather", "gather"]
    assert told["gpu2"]["gang"] == {
        "hosts": ["gpu1", "gpu2"], "address": "10.0.0.1", "port": 25_000, "key": "key",
    }  # fmt: skip
    gpus: dict[str, list[int]] = {"gpu1": [3, 1, 0, 2], "gpu2": [0, 1, 2, 3]}
    ports = {"gpu1": [20_001, 20_002], "gpu2": []}
    given: Any = {
        host: {"gpus": some, "names": list(map(str, some)), "ports": ports[host]}
        for host, some in gpus.items()
    }
    begun = {
        host: ev.BegunThere(2.0, host, 0, 1.0, tuple(gpus[host]), tuple(ports[host]))
        for host in gpus
    }
    plan = left_to_hosts.begun(made, MET, begun)
    for session in made.sessions:
        of_host = told[session.name]
        start: Any = filled_together(of_host["start"], of_host["tokens"], given, of_host["packed"])
        peers = made.peers(plan, {}, "key")
        assert start == made.start_request(session, plan, peers)
    assert start["news"]["port"] == 20_002
    with pytest.raises(BadAnswer):
        left_to_hosts.begun(
            made, MET, {**begun, "gpu2": ev.BegunThere(2.0, "gpu2", 0, 1.0, (0, 1), ())}
        )


MANY = tuple(Host(f"gpu{number}") for number in range(1, 5))


def choice(framework: str, gpus: int, hosts: tuple[Host, ...] = MANY) -> Launch:
    """Return a run that may choose among hosts with four GPUs each."""
    one = launch(framework)
    job = replace(one.context.job, resources=Resources(gpus=gpus))
    facts = {host.name: replace(FACTS["gpu1"], hostname=host.name) for host in hosts}
    context: Any = SimpleNamespace(**{**vars(one.context), "job": job})
    context.request.job = job
    sessions: Any = [
        SimpleNamespace(name=host.name, host=host, facts=facts[host.name]) for host in hosts
    ]
    stands = [turn.Stand(host, facts[host.name], Turns((), {})) for host in hosts]
    layout = turn.layout_of_any(job, stands, [4] * (gpus // 4), "mine")
    assert layout is not None
    return Launch(context, sessions, layout, 0)


@pytest.mark.parametrize("gpus", [4, 8])
@pytest.mark.parametrize("framework", ["torchrun", "env", "deepspeed", "horovod"])
def test_each_host_knows_what_to_start_in_each_way(framework: str, gpus: int) -> None:
    """What it fills in is what the launcher would have sent, had it known who is chosen."""
    made, wanted = choice(framework, gpus), gpus // 4
    assert left_to_hosts.is_possible(made)
    assert (made.layout.num_nodes, made.layout.world_size) == (wanted, gpus)
    addresses = {host.name: f"10.0.0.{n}" for n, host in enumerate(MANY, 1)}
    ways = []
    for layout in layouts_of(made.layout):
        one = on(made, layout)
        ways.append(Way(one, Meeting(addresses[one.sessions[0].name], 0, {}, addresses)))
    assert len(ways) == {1: 4, 2: 6}[wanted]
    place: Any = SimpleNamespace(
        wait_left=lambda: None,
        for_hosts=lambda: None,
        may_return=False,
        membership=SimpleNamespace(rules={}),
        ticket_for=lambda host: {"number": 1, "hosts": 4, "shares": [4] * wanted},
    )
    meeting = Meeting("10.0.0.1", 25_000, {}, addresses)
    told = left_to_hosts.requests(made, ways, meeting, "key", place, WITNESSES, True)
    assert [checked(one) for one in told.values()] == ["gather"] * 4
    number, way = next(
        (n, way) for n, way in enumerate(ways) if way.launch.sessions[-1].name == "gpu4"
    )
    spec = told["gpu4"]["ways"][number]
    chosen = [session.name for session in way.launch.sessions]
    assert set(spec["tokens"]) == set(spec["addresses"]) == set(chosen)
    counts = {host: len(one["ports"]) for host, one in spec["tokens"].items()}
    ports, first = {}, 20_000
    for host, count in counts.items():
        ports[host], first = list(range(first, first + count)), first + count
    given: Any = {
        host: {"gpus": [3, 1, 0, 2], "names": ["3", "1", "0", "2"], "ports": ports[host]}
        for host in chosen
    }
    begun = {
        host: ev.BegunThere(
            2.0, host, 0, 1.0, (3, 1, 0, 2), tuple(ports[host]),
            tuple(chosen), spec["address"], spec["interfaces"], spec["addresses"],
        )
        for host in chosen
    }  # fmt: skip
    by_leader = replace(begun["gpu4"], host="gpu1", gpus=(), ports=())
    plan = left_to_hosts.begun(made, None, {"gpu1": by_leader, **begun})
    assert [node.host.name for node in plan.layout.nodes] == chosen
    assert plan.layout.wanted == 0
    for session in way.launch.sessions:
        of_host = told[session.name]
        start: Any = filled_together(
            of_host["starts"][str(number)], spec["tokens"], given, of_host["packed"]
        )
        peers = way.launch.peers(plan, {}, "key")
        expected = on(made, plan.layout).start_request(session, plan, peers)
        start.pop("peer", None)  # certificates differ by chance
        assert start == expected


def test_hosts_cannot_begin_on_what_was_not_asked_for() -> None:
    made = choice("torchrun", 4)
    event = ev.BegunThere(2.0, "gpu2", 0, 1.0, (0, 1, 2, 3), (20_000,), ("gpu2",), "10.0.0.2")
    assert left_to_hosts.begun(made, None, {"gpu2": event})
    for hosts in (("gpu2", "gpu3"), ("gpu9",)):
        with pytest.raises(BadAnswer):
            left_to_hosts.begun(made, None, {"gpu2": replace(event, hosts=hosts)})


def test_an_elastic_run_has_ways_of_several_sizes() -> None:
    """In each, torchrun expects the hosts that it has, and goes on with as few as the user said."""
    made = choice("torchrun", 12, MANY[:3])
    job = replace(made.context.job, elastic=1, num_nodes=3, max_restarts=1)
    made.context.job = made.context.request.job = job  # type: ignore[misc]
    made = replace(made, layout=replace(made.layout, wanted=1, most=3))
    assert left_to_hosts.is_possible(made)
    layouts = list(layouts_of(made.layout))
    assert [one.num_nodes for one in layouts] == [3, 2, 2, 2, 1, 1, 1]
    assert number_of_ways(made.layout) == 7
    for layout in layouts:
        addresses = {node.host.name: f"10.0.0.{node.host.name[-1]}" for node in layout.nodes}
        head = layout.nodes[0].host.name
        assert (layout.wanted, layout.most) == (0, 0)
        plan = on(made, layout).plan(layout, Meeting(addresses[head], 25_000, {}, addresses))
        for node in plan.nodes:
            (process,) = node.processes
            assert f"--nnodes=1:{layout.num_nodes}" in process.argv
            assert f"--rdzv-endpoint={addresses[head]}:25000" in process.argv
            is_host = str(node.node.host.name == head).lower()
            assert any(word.endswith(f"is_host={is_host}") for word in process.argv)
    some = ("gpu2", "gpu3")
    event = ev.BegunThere(2.0, "gpu2", 0, 1.0, (0, 1, 2, 3), (20_000, 20_001), some, "10.0.0.2")
    begun = {"gpu2": event, "gpu3": replace(event, host="gpu3", ports=())}
    assert [n.host.name for n in left_to_hosts.begun(made, None, begun).layout.nodes] == [*some]
    with pytest.raises(BadAnswer):
        left_to_hosts.begun(
            replace(made, layout=replace(made.layout, wanted=3, most=0)), None, begun
        )


MOST = tuple(Host(f"gpu{number}") for number in range(1, 13))


@pytest.mark.parametrize("framework", ["torchrun", "torch", "env", "deepspeed", "slurm"])
def test_the_number_of_ways_does_not_matter(framework: str) -> None:
    """A run on 6 of 12 hosts has 924 ways, and each host is told what it starts in its place among six.
    What it fills in is what the launcher would have sent, had it known who is chosen."""
    made = choice(framework, 24, MOST)
    assert number_of_ways(made.layout) > 256
    assert left_to_hosts.is_possible(made)
    addresses = {host.name: f"10.0.0.{n}" for n, host in enumerate(MOST, 1)}
    meeting = Meeting("10.0.0.1", 25_000, dict.fromkeys(addresses, "eth0"), addresses)
    heads = {name: replace(meeting, master_addr=at) for name, at in addresses.items()}
    place: Any = SimpleNamespace(
        wait_left=lambda: None,
        for_hosts=lambda: None,
        may_return=False,
        membership=SimpleNamespace(rules={}),
        ticket_for=lambda host: {"number": 1, "hosts": 12, "shares": [4] * 6},
    )
    told = left_to_hosts.requests(made, AnyWay(heads, {}), meeting, "key", place, WITNESSES, True)
    assert [checked(one) for one in told.values()] == ["gather"] * 12
    assert sorted(told["gpu12"]["starts"]) == ["6.5"], "it is the last of any"
    assert len(told["gpu6"]["starts"]) == 6
    assert max(len(json.dumps(one)) for one in told.values()) < 100_000
    chosen = ["gpu2", "gpu3", "gpu6", "gpu8", "gpu11", "gpu12"]
    ways, _ = ways_of(cast(Any, told["gpu6"]))
    assert not isinstance(ways, list)
    number = ways.number_of(chosen)
    assert number is not None
    way = ways[number]
    assert (list(way["tokens"]), way["address"]) == (chosen, "10.0.0.2")
    given: Any = {
        host: {"gpus": [3, 1, 0, 2], "names": ["3", "1", "0", "2"],
               "ports": [20_000 + place for place, _ in enumerate(one["ports"])]}
        for host, one in way["tokens"].items()
    }  # fmt: skip
    begun = {
        host: ev.BegunThere(
            2.0, host, 0, 1.0, (3, 1, 0, 2), tuple(one["ports"]),
            tuple(chosen), way["address"], way["interfaces"], way["addresses"],
        )
        for host, one in given.items()
    }  # fmt: skip
    plan = left_to_hosts.begun(made, None, begun)
    launched = on(made, plan.layout)
    peers = launched.peers(plan, {}, "key")
    for session in launched.sessions:
        of_host = told[session.name]
        packed = of_host["packed"]
        start = start_of(ways, of_host["starts"], number, session.name, packed)
        assert start is not None
        filled = filled_together(start, way["tokens"], given, packed)
        assert filled == launched.start_request(session, plan, peers)
    assert start_of(ways, told["gpu1"]["starts"], number, "gpu1") is None


def test_an_elastic_run_may_have_any_number_of_ways() -> None:
    """Also one on a single host, which meets nobody."""
    made = choice("torchrun", 12, MOST)
    job = replace(made.context.job, elastic=1, num_nodes=3, max_restarts=1)
    made.context.job = made.context.request.job = job  # type: ignore[misc]
    made = replace(made, layout=replace(made.layout, wanted=1, most=3))
    assert number_of_ways(made.layout) == 12 + 66 + 220
    assert left_to_hosts.is_possible(made)


def test_what_packs_more_of_the_others_than_their_names_needs_a_launcher() -> None:
    """mpirun has certificates of all; 24 hosts have 276 pairs."""
    many = tuple(Host(f"gpu{number}") for number in range(24))
    assert not left_to_hosts.is_possible(choice("mpi", 8, many))
    assert left_to_hosts.is_possible(choice("mpi", 8, many[:16])), "120 pairs"
    assert left_to_hosts.is_possible(choice("mpi", 4, many))
    assert not left_to_hosts.is_possible(choice("dask", 8, many))


def test_very_many_hosts_need_a_launcher() -> None:
    """To find out how they meet behind each first one would take minutes."""
    many = tuple(Host(f"gpu{number}") for number in range(200))
    for count in (2, 100):
        assert not left_to_hosts.is_possible(choice("torchrun", 4 * count, many))
    assert left_to_hosts.is_possible(choice("torchrun", 4 * 2, many[:60]))
