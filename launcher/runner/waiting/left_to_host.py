"""What a host needs to start a run by itself when its turn has come, and what it says of that start.

Which GPUs and ports the run gets is decided there: its plan is made with a token for each.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ... import frameworks
from ...agent.supervisor.template import filled
from ...jobs import planner
from ...jobs.gpus import usable
from ...records import events as ev
from ...spec.errors import BadAnswer
from ...spec.frozen import frozen
from ...spec.model import Layout, Meeting, Node, Plan
from ..host_session import HostSession
from ..launch import Launch, Peers
from ..policy import turn
from ..rendezvous import alone

#: Tokens are numbers of 18 digits, which nothing else in a plan is.
LEAST_TOKEN = 10**17


@frozen
class Choice:
    """The GPUs of a run on its only host, what programs call each, and its ports: or their tokens."""

    gpus: tuple[int, ...]
    names: tuple[str, ...]
    ports: tuple[int, ...]

    @classmethod
    def tokens(cls, gpus: int, ports: int) -> Choice:
        """Return a token for each of so many GPUs and ports."""
        first = LEAST_TOKEN + secrets.randbelow(8 * LEAST_TOKEN)
        numbers = range(first, first + 2 * gpus + ports)
        names = tuple(f"gpu-{number}" for number in numbers[gpus : 2 * gpus])
        return cls(tuple(numbers[:gpus]), names, tuple(numbers[2 * gpus :]))

    def as_tokens(self) -> dict[str, list[str]]:
        """Return them as the host looks for them."""
        return {name: list(map(str, value)) for name, value in vars(self).items()}

    def layout(self, layout: Layout) -> Layout:
        """Return a layout of one node with these GPUs."""
        (node,) = layout.nodes
        return replace(layout, nodes=(turn.on_gpus(node, self.gpus, self.names),))


def is_possible(launch: Launch) -> bool:
    """Return whether the host can start the run by itself: whether it would start what this launcher
    would have sent. A framework may pack GPUs or ports into something that has to be made anew."""
    (node,) = launch.layout.nodes
    peers = launch.certified()
    tokens = _tokens(launch)
    names = node.gpu_names or tuple(map(str, node.gpus))
    real = Choice(node.gpus, names, tuple(range(20_001, 20_001 + len(tokens.ports))))
    start: Any = _request(launch, tokens, peers)
    packed = framework_of(launch).packed
    made: Any = filled(start, tokens.as_tokens(), real.gpus, real.names, real.ports, packed)
    return bool(made == _request(launch, real, peers))


async def wait_request(
    launch: Launch, ticket: Mapping[str, Any], rules: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the request to wait on the only host of a launch, and to start there, with the ``rules`` of
    projects. It contains secrets.

    Raises FrameworkMissing, HostError.
    """
    await launch.require()
    (session,) = launch.sessions
    job, tokens = launch.context.job, _tokens(launch)
    there = turn.gpus_of(session.host, session.facts, job.resources.gpu_model)
    names = usable(session.host, session.facts).names
    return {
        "op": "wait",
        "run": launch.layout.run_id,
        "ticket": ticket,
        "gpus": list(there),
        "names": {str(gpu): names.get(gpu, str(gpu)) for gpu in there},
        "start": _request(launch, tokens, launch.certified()),
        "tokens": tokens.as_tokens(),
        "packed": list(framework_of(launch).packed),
        "ports": list(job.master_port),
        "ignore_foreign": int(launch.context.request.ignore_foreign),
        "rules": rules,
    }


def framework_of(launch: Launch) -> frameworks.Framework:
    """Return the framework of a launch."""
    return frameworks.get(launch.context.job.framework)


def _tokens(launch: Launch) -> Choice:
    (session,), (node,) = launch.sessions, launch.layout.nodes
    ports = planner.ports_needed(launch.context.job, launch.layout).get(session.name, 0)
    return Choice.tokens(len(node.gpus), 1 + ports)


def _request(launch: Launch, choice: Choice, peers: Peers) -> dict[str, Any]:
    (session,) = launch.sessions
    return launch.start_request(session, _plan(launch, choice), peers)


def _plan(launch: Launch, choice: Choice) -> Plan:
    return launch.plan(choice.layout(launch.layout), _meeting(launch, choice))


def _meeting(launch: Launch, choice: Choice) -> Meeting:
    (session,) = launch.sessions
    return alone(launch.context.job, session, choice.ports[0], choice.ports[1:])


def begun(launch: Launch, event: ev.BegunThere) -> Plan:
    """Return the plan that a host has begun by itself. Raises BadAnswer where it cannot be that."""
    (session,), (node,) = launch.sessions, launch.layout.nodes
    count = 1 + planner.ports_needed(launch.context.job, launch.layout).get(session.name, 0)
    if not _is_of(event, session, node, count):
        raise BadAnswer(session.name, "it has begun the run on other GPUs or ports than asked for")
    layout = turn.with_gpus(
        launch.layout, {session.name: session.facts}, {session.name: event.gpus}
    )
    (node,) = layout.nodes
    return _plan(launch, Choice(node.gpus, node.gpu_names, event.ports))


def _is_of(event: ev.BegunThere, session: HostSession, node: Node, ports: int) -> bool:
    """Return whether these are as many GPUs and ports as the run wants, and can be."""
    there: Sequence[int] = usable(session.host, session.facts).indices
    gpus = len(event.gpus) == len(node.gpus) and set(event.gpus) <= set(there)
    return gpus and len(event.ports) == ports and all(0 < port < 1 << 16 for port in event.ports)
