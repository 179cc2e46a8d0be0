"""Which names of which hosts are told to the others of a run."""

from __future__ import annotations

from launcher.jobs.host_entries import host_entries
from launcher.spec.model import Host, Layout, Meeting, Node


def entries(*hosts: Host, **hostnames: str) -> list[tuple[str, list[str]]]:
    nodes = tuple(Node(host, rank, 1, rank) for rank, host in enumerate(hosts))
    addresses = {host.name: f"10.0.0.{n}" for n, host in enumerate(hosts, 1)}
    found = host_entries(Layout("r", nodes), Meeting("10.0.0.1", 1, {}, addresses), hostnames)
    return [(entry["address"], entry["names"]) for entry in found]


def test_a_domain_of_the_hosts_own_counts() -> None:
    found = entries(Host("gpu1"), Host("two", address="gpu2"), gpu1="GPU1.lab", two="gpu2.lab")
    assert found == [
        ("10.0.0.1", ["gpu1", "GPU1.lab"]),
        ("10.0.0.2", ["two", "gpu2", "gpu2.lab"]),
    ]


def test_a_host_takes_over_no_other_name() -> None:
    evil = Host("evil", address="203.0.113.9")
    for claim in ("example.org", "gpu1", "localhost", "evil evil.org", "evil\n1.2.3.4 gpu1", ""):
        assert entries(Host("gpu1"), evil, evil=claim)[1] == ("10.0.0.2", ["evil"])


def test_a_host_without_an_address_is_left_out() -> None:
    layout = Layout("r", (Node(Host("gpu1"), 0, 1, 0),))
    assert host_entries(layout, Meeting("m", 1), {}) == []
