"""What several hosts are given to start a run together is what its launcher would have sent."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from launcher.agent.supervisor.requests import checked
from launcher.agent.supervisor.template import filled_together
from launcher.jobs.layout import make_layout
from launcher.records import events as ev
from launcher.runner import left_to_hosts
from launcher.runner.launch import Launch
from launcher.spec.errors import BadAnswer
from launcher.spec.model import Facts, Gpu, Host, Job, Meeting, Resources

HOSTS = (Host("gpu1"), Host("gpu2"))
GPUS = tuple(Gpu(index, uuid=f"GPU-{index}") for index in range(4))
FACTS = {
    host.name: Facts(host.name, host.name, "/r", "python3", "3.11", 8, gpus=GPUS) for host in HOSTS
}
ADDRESSES = {"gpu1": "10.0.0.1", "gpu2": "10.0.0.2"}
MET = ev.WaitsOnHosts(1.0, "gpu1", ("gpu1", "gpu2"), "10.0.0.1", {}, ADDRESSES)


def launch(framework: str, ports: tuple[int, int] = (20_000, 32_000)) -> Launch:
    job = Job(
        run=("train.py", "--port={{master_port}}"),
        framework=framework,
        resources=Resources(gpus=8),
        master_port=ports,
    )
    request = SimpleNamespace(
        stdin=False, job=job, columns=None, time_limit=None, check=False, ignore_foreign=False
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


def test_a_run_with_few_ports_is_not_left_to_hosts() -> None:
    """They keep one of them while they wait."""
    assert not left_to_hosts.is_possible(launch("torchrun", (29_500, 29_500)))


@pytest.mark.parametrize("framework", ["torchrun", "deepspeed"])
def test_hosts_fill_in_what_the_plan_says_that_follows_from_their_journals(framework: str) -> None:
    made = launch(framework)
    place: Any = SimpleNamespace(
        wait_left=lambda: None,
        ticket_for=lambda host: {"number": 1, "hosts": 2, "shares": [4, 4]},
    )
    meeting = Meeting("10.0.0.1", 25_000, {}, ADDRESSES)
    told = left_to_hosts.requests(made, meeting, place, "key")
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
