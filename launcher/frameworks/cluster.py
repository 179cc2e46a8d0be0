"""What dask and ray share: a head on the first host, a worker on each, and the command on the first.

The parts are started through the agents, as ``ssh HOST`` of a run, and so end with it.
"""

from __future__ import annotations

import json
import shlex
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from ..spec.frozen import frozen
from ..spec.model import Node, Process
from . import rsh
from .base import Framework, Place

#: Seconds in which all hosts have to join.
PATIENCE = 180
#: The command of a job that starts nothing on its cluster, and keeps it until the run is stopped.
KEEP = ("keep-cluster",)


@frozen
class Parts:
    """What a cluster is made of: the command of the head, and those of workers with their hosts, each
    with the host's own ``python``; what waits for all to join; and variables of the user's command."""

    head: tuple[str, ...]
    workers: tuple[tuple[str, tuple[str, ...]], ...]
    joined: tuple[str, ...]
    env: Mapping[str, str]


class Cluster(Framework):
    """Base of both. A subclass says what its parts are."""

    joins_hosts = True
    #: Ports of the head: where parts meet, the dashboard's, and those that a subclass adds.
    head_ports: ClassVar[int] = 2

    def ports(self, node: Node) -> int:
        """Return how many the head needs."""
        return self.head_ports if node.node_rank == 0 else 0

    @abstractmethod
    def parts(self, place: Place) -> Parts:
        """Return what the cluster is made of."""

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return the head with the command on the first host, and a peer of ours on the others."""
        if place.node.node_rank:
            return rsh.processes(place, (), place.env)
        parts, first = self.parts(place), place.node.host.name
        started = [(first, parts.head)]
        for host, argv in parts.workers:
            remote = ("ssh", "-n", host, shlex.join(argv))
            started.append((host, argv if host == first else remote))
        spec = {
            "name": self.name,
            "parts": started,
            "joined": parts.joined,
            "seconds": PATIENCE,
            "env": dict(parts.env),
            "ready": _ready(self.name, place, parts.env),
        }
        agent = (place.node.python, "-I", "-S", place.agent)
        command = () if place.job.run == KEEP else place.command()
        argv = (*agent, "cluster", json.dumps(spec), *command)
        return rsh.processes(place, argv, {**place.env, **rsh.names(place.layout)})


def _ready(name: str, place: Place, env: Mapping[str, str]) -> str:
    """Return the line that says that all hosts have joined, where, and the dashboard's command."""
    count = len(place.layout.nodes)
    joined = "1 host has joined" if count == 1 else f"{count} hosts have joined"
    where = " ".join(f"{variable}={value}" for variable, value in env.items())
    forward = f"launcher forward {place.layout.run_id} {meeting_point(place)[2]}"
    return f"{name}: {joined}; {where}; dashboard: {forward}"


def meeting_point(place: Place) -> tuple[str, str, str]:
    """Return the address of the head, its port, and the port of its dashboard."""
    head = place.layout.nodes[0].host
    port, dashboard = (*map(str, place.meeting.ports.get(head.name, ())), "0", "0")[:2]
    return place.meeting.master_addr, port, dashboard
