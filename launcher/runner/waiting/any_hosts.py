"""What hosts need to start a run on any of them, where there are too many ways to list.

What a host starts depends on its place among those that are chosen, and on their names and addresses: it
is told a start request for each place, with tokens for these. See
docs/decisions/0096-any-number.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from ...agent.supervisor.gang.any_of import AnyOf
from ...jobs.host_entries import host_entries
from ...spec.frozen import frozen
from ...spec.model import Facts, Host, Layout, Meeting
from ..host_session import HostSession
from ..launch import Launch, Peers
from .chosen_plan import plan_of, ports_of
from .left_to_host import LEAST_TOKEN, Choice, framework_of
from .ways import number_of_heads

#: Most start requests of all hosts: each has one for each number of hosts and its place among them.
MOST_STARTS = 4096
#: Most hosts that may be the first of those that are chosen: it is found out how all others reach each.
MOST_HEADS = 64


def is_possible(launch: Launch) -> bool:
    """Return whether hosts would start what this launcher would have sent, whichever are chosen: it has
    no more of the others in it than names and addresses, and there are few enough such requests."""
    sizes = range(launch.layout.num_nodes, launch.layout.largest.num_nodes + 1)
    request, framework = launch.context.request, framework_of(launch)
    hosts = len(launch.sessions)
    if hosts * sum(sizes) > MOST_STARTS or number_of_heads(launch.layout) > MOST_HEADS:
        return False
    if framework.joins_hosts or request.preemptible:
        return False
    names = [session.name for session in launch.sessions]
    known = {name: f"192.0.{2 + n // 250}.{n % 250 + 1}" for n, name in enumerate(names)}
    devices = {name: f"eth{n}" for n, name in enumerate(names)}
    made = Templates(launch, "")
    heads = {name: Meeting(known[name], 0, devices, known) for name in names}
    of_any: Any = made.told(heads, heads)
    starts: Any = {session.name: made.starts(session) for session in launch.sessions}
    ways = AnyOf(of_any)
    for size in sizes:
        for chosen in _groups(names, size):
            number = ways.number_of(chosen)
            real = made.real(launch.layout.of(chosen), Meeting(known[chosen[0]], 0, devices, known))
            for host, wanted in zip(chosen, real, strict=True):
                filled: Any = ways.start_of(starts[host], number or 0, host, framework.packed)
                if filled is None or {**filled, "seconds": 0} != {**wanted, "seconds": 0}:
                    return False
    return True


def _groups(names: Sequence[str], size: int) -> list[list[str]]:
    """Return so many hosts in groups: each is in one, beside its neighbours, and some are far apart."""
    last = len(names) - size
    groups = [list(names[min(at, last) :][:size]) for at in range(0, len(names), size)]
    return [*groups, list(names[:: len(names) // size])[:size]]


@frozen
class Marks:
    """The tokens of a place: what stands for the name, address and interface of its host."""

    name: str
    address: str
    interface: str


@frozen
class _StandIn:
    """A host under the name of a place."""

    name: str
    host: Host
    facts: Facts


class Templates:
    """The start requests of a run that may begin on any of its hosts. They contain secrets."""

    def __init__(self, launch: Launch, key: str) -> None:
        self._launch, self._key = launch, key
        layout = launch.layout
        self.sizes = range(layout.num_nodes, layout.largest.num_nodes + 1)
        first = LEAST_TOKEN + secrets.randbelow(8 * LEAST_TOKEN)
        self._marks = [
            Marks(
                f"host-{first + 3 * n}",
                f"address-{first + 3 * n + 1}",
                f"device-{first + 3 * n + 2}",
            )
            for n in range(self.sizes[-1])
        ]
        self._master = f"address-{first + 3 * self.sizes[-1]}"
        ports = {size: self._ports(size) for size in self.sizes}
        count = len(layout.nodes[0].gpus)
        self.tokens = {
            size: [Choice.tokens(count, some) for some in ports[size]] for size in self.sizes
        }

    def told(self, heads: Mapping[str, Meeting], alone: Mapping[str, Meeting]) -> dict[str, Any]:
        """Return what all hosts are told of the ways to run."""
        layout, hosts = self._launch.layout, [node.host for node in self._launch.layout.nodes]
        return {
            "hosts": [host.name for host in hosts],
            "least": self.sizes[0],
            "most": self.sizes[-1],
            "gpus": len(layout.nodes[0].gpus),
            "tokens": {
                str(size): [one.as_tokens() for one in some] for size, some in self.tokens.items()
            },
            "heads": {host: _described(one, hosts) for host, one in heads.items()},
            "alone": {host: _described(one, hosts) for host, one in alone.items()},
            "marks": [[one.name, one.address, one.interface] for one in self._marks],
            "master": self._master,
            "names": self._names(),
        }

    def starts(self, session: HostSession) -> dict[str, dict[str, Any]]:
        """Return what a host starts, by the number of hosts and its place among them."""
        found, names = {}, [one.name for one in self._launch.sessions]
        before = names.index(session.name)
        after = len(names) - 1 - before
        for size in self.sizes:
            launch = self._for_places(session, size)
            meeting = Meeting(
                self._master,
                0,
                {one.name: one.interface for one in self._marks[:size]},
                {one.name: one.address for one in self._marks[:size]},
            )
            choices = {
                one.name: some for one, some in zip(self._marks, self.tokens[size], strict=False)
            }
            for place, start in enumerate(self._starts(launch, choices, meeting)):
                if place <= before and size - 1 - place <= after:
                    found[f"{size}.{place}"] = start
        return found

    def real(self, layout: Layout, meeting: Meeting) -> list[dict[str, Any]]:
        """Return what the hosts of a layout start, but for GPUs and ports, as a launcher sends it."""
        known = {session.name: session for session in self._launch.sessions}
        names = [node.host.name for node in layout.nodes]
        launch = replace(self._launch, sessions=[known[name] for name in names], layout=layout)
        return self._starts(launch, dict(zip(names, self.tokens[len(names)], strict=True)), meeting)

    def _starts(
        self, launch: Launch, choices: Mapping[str, Choice], meeting: Meeting
    ) -> list[dict[str, Any]]:
        plan = plan_of(launch, choices, meeting)
        peers: Peers = launch.peers(plan, {}, self._key)
        return [launch.start_request(session, plan, peers) for session in launch.sessions]

    def _for_places(self, session: HostSession, size: int) -> Launch:
        """Return a launch on so many hosts that are all like this one, and have the names of places."""
        (node,) = (one for one in self._launch.layout.nodes if one.host.name == session.name)
        ranks = node.local_world_size
        nodes = tuple(
            replace(
                node,
                host=replace(node.host, name=mark.name),
                node_rank=place,
                rank_offset=place * ranks,
            )
            for place, mark in enumerate(self._marks[:size])
        )
        sessions = [_StandIn(one.host.name, one.host, session.facts) for one in nodes]
        layout = Layout(self._launch.layout.run_id, nodes)
        return replace(self._launch, sessions=cast(Sequence[HostSession], sessions), layout=layout)

    def _ports(self, size: int) -> list[int]:
        """Return how many ports the host of each place has."""
        layout = self._launch.layout.of(
            [node.host.name for node in self._launch.layout.nodes[:size]]
        )
        counts = ports_of(replace(self._launch, layout=layout))
        return [counts.get(node.host.name, 0) for node in layout.nodes]

    def _names(self) -> dict[str, list[str]]:
        """Return the names of each host in the /etc/hosts of the run."""
        layout, known = self._launch.layout, {one.name: one.facts for one in self._launch.sessions}
        anywhere = dict.fromkeys(known, "192.0.2.1")
        meeting = Meeting("", 0, {}, anywhere)
        names = {name: facts.hostname for name, facts in known.items()}
        return {one["host"]: one["names"] for one in host_entries(layout, meeting, names)}


def _described(meeting: Meeting, hosts: Sequence[Host]) -> dict[str, Any]:
    """Return what hosts are told of a meeting."""
    names = [host.name for host in hosts if host.name in meeting.addresses]
    return {
        "address": meeting.master_addr,
        "interfaces": {
            name: meeting.interfaces[name] for name in names if name in meeting.interfaces
        },
        "addresses": {name: meeting.addresses[name] for name in names},
    }
