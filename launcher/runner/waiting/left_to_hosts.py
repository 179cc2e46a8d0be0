"""What several hosts need to start a run together when its turn has come, and what they say of that.

Which GPUs and ports the run gets is decided there: its plan is made with a token for each, as in
left_to_host.py. Where the run may choose among hosts, there is a plan for each choice. See
docs/decisions/0070-hosts-meet.md and docs/decisions/0082-hosts-choose.md.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

from ...agent.supervisor.template import filled_together, of_attempt
from ...jobs.gpus import usable
from ...records import events as ev
from ...spec.errors import BadAnswer
from ...spec.model import Meeting, Plan
from ..host_session import HostSession
from ..launch import Launch, Peers
from ..policy import turn
from ..policy.turn import layouts_of
from . import any_hosts
from .any_hosts import Templates
from .chosen_plan import plan_of, ports_of
from .left_to_host import LEAST_TOKEN, Choice, framework_of
from .place import Place
from .ways import MOST_WAYS, AnyWay, Way, are_many, number_of_ways, on
from .witnesses import Witnesses, addresses_of

#: Ports that a run must be able to choose from: the hosts keep one for as long as they wait.
LEAST_PORTS = 16
#: Fewest hosts of which another may lead once the first is gone: of two, none is a majority. And most
#: addresses at which each is called.
FEWEST_VOTERS, MOST_PLACES = 3, 4

#: By host: GPUs, their names, and ports; or their tokens.
Choices = Mapping[str, Choice]


def is_possible(launch: Launch) -> bool:
    """Return whether the hosts can start the run by themselves: whether they would start what this
    launcher would have sent, and have few enough ways to. A framework may pack GPUs or ports into
    something that has to be made anew."""
    first, last = launch.context.job.master_port
    if last - first + 1 < LEAST_PORTS:
        return False
    is_listed = number_of_ways(launch.layout) <= MOST_WAYS
    if not is_listed and not (are_many(launch.layout) and any_hosts.is_possible(launch)):
        return False
    launch = on(launch, next(layouts_of(launch.layout)))
    any_attempt = replace(launch, attempt=LEAST_TOKEN)
    known = {node.host.name: f"192.0.2.{n % 250 + 1}" for n, node in enumerate(launch.layout.nodes)}
    meeting = Meeting(known[launch.sessions[0].name], 0, dict.fromkeys(known, "eth0"), known)
    tokens, real, certified = _tokens(launch), _real(launch), launch.certified()
    peers = launch.peers(plan_of(launch, tokens, meeting), certified, "")
    packed = framework_of(launch).packed
    given: Any = {
        host: {name: list(value) for name, value in vars(one).items()} for host, one in real.items()
    }
    looked_for = {host: one.as_tokens() for host, one in tokens.items()}
    plan, wanted = plan_of(any_attempt, tokens, meeting), plan_of(launch, real, meeting)
    for session in launch.sessions:
        start: Any = any_attempt.start_request(session, plan, peers)
        start = of_attempt(start, str(LEAST_TOKEN), launch.attempt, packed)
        made: Any = filled_together(start, looked_for, given, packed)
        other = launch.start_request(session, wanted, _with_ports(peers, wanted.meeting))
        if {**made, "seconds": 0} != {**other, "seconds": 0}:  # time goes on meanwhile
            return False
    return True


def requests(
    launch: Launch,
    ways: Sequence[Way] | AnyWay,
    meeting: Meeting,
    key: str,
    place: Place,
    witnesses: Witnesses,
    returns: bool,
) -> dict[str, dict[str, Any]]:
    """Return the request for each host to wait with the others, and to start there. They contain
    secrets. ``meeting`` says how the hosts reach the first one: they meet at its port until then. With
    ``returns`` it serves every attempt of a run that may wait more than once."""
    project, attempt = place.for_hosts(), None
    if place.may_return and returns:
        attempt = LEAST_TOKEN + secrets.randbelow(8 * LEAST_TOKEN)
    model = launch.context.job.resources.gpu_model
    of_all: dict[str, Any] = {
        "op": "gather",
        "run": launch.layout.run_id,
        "gang": {
            "hosts": [session.name for session in launch.sessions],
            **(witnesses.of_gang(launch.sessions, meeting) if project else {}),
            "address": meeting.address_of(launch.sessions[0].host),
            "port": int(meeting.master_port),
            "key": key,
        },
        "gpus": {
            one.name: list(turn.gpus_of(one.host, one.facts, model)) for one in launch.sessions
        },
        "packed": list(framework_of(launch).packed),
        "ports": list(launch.context.job.master_port),
        "ignore_foreign": int(launch.context.request.ignore_foreign),
        "seconds": place.wait_left(),
        "rules": place.membership.rules,
        **({"project": project} if project else {}),
        **({"attempt": str(attempt)} if attempt else {}),
    }
    told, starts = [], {session.name: dict[str, Any]() for session in launch.sessions}
    if isinstance(ways, AnyWay):
        templates = Templates(launch, key)
        of_all["any_of"] = templates.told(ways.heads, ways.alone)
        starts = {session.name: templates.starts(session) for session in launch.sessions}
        ways = ()
    for number, one_way in enumerate(ways):
        way = one_way if attempt is None else _of_any_attempt(one_way, attempt)
        tokens = _tokens(way.launch)
        plan = plan_of(way.launch, tokens, way.meeting)
        peers = way.launch.peers(plan, way.launch.certified(), key)
        told.append(_described(way, tokens))
        for session in way.launch.sessions:
            start = way.launch.start_request(session, plan, peers)
            starts[session.name][str(number)] = start
    if told and launch.layout.wanted:
        of_all["ways"] = told
    elif told:  # as earlier versions know it
        of_all.update((name, one) for name, one in told[0].items() if name != "address")
    found = {}
    for session in launch.sessions:
        known = usable(session.host, session.facts).names
        there, mine = of_all["gpus"][session.name], starts[session.name]
        has_gpus = any(node.gpus for node in launch.layout.nodes if node.host.name == session.name)
        found[session.name] = {
            **of_all,
            **({"ticket": place.ticket_for(session.name)} if has_gpus else {}),
            **({"starts": mine} if launch.layout.wanted else {"start": mine["0"]}),
            "names": {str(gpu): known.get(gpu, str(gpu)) for gpu in there},
        }
    return found


def with_voters(
    told: Mapping[str, dict[str, Any]], launch: Launch, voters: Sequence[str], void: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Return requests with the ``voters``, which decide which host leads, and where each of these may be
    reached. Nothing has begun by the requests whose keys are ``void``."""
    places = {}
    for session in launch.sessions:
        known = addresses_of(launch.context.job, session)
        away = [one for one in known if not ip_address(one).is_loopback]
        places[session.name] = (away or known)[:MOST_PLACES]
    more = {"voters": list(voters), "places": places}
    return {
        host: {**one, "gang": {**one["gang"], **more}, "void": sorted(void)}
        for host, one in told.items()
    }


def _of_any_attempt(way: Way, token: int) -> Way:
    """Return a way to run whose attempt has a token instead of a number."""
    return replace(way, launch=replace(way.launch, attempt=token))


def _described(way: Way, tokens: Choices) -> dict[str, Any]:
    """Return what hosts are told of a way."""
    return {
        "counts": {host: len(one.gpus) for host, one in tokens.items()},
        "tokens": {host: one.as_tokens() for host, one in tokens.items()},
        "address": way.meeting.master_addr,
        "interfaces": _of(way.meeting.interfaces, tokens),
        "addresses": _of(way.meeting.addresses, tokens),
    }


def _of(known: Mapping[str, str], hosts: Choices) -> dict[str, str]:
    return {host: one for host, one in known.items() if host in hosts}


def begun(launch: Launch, met: ev.WaitsOnHosts | None, events: Mapping[str, ev.BegunThere]) -> Plan:
    """Return the plan that the hosts have begun by themselves. Raises BadAnswer where it cannot be
    that."""
    said = next((event for event in events.values() if event.hosts), None)
    if said is not None:
        _require_way(launch, said)
        counts = {host: len(events[host].gpus) for host in said.hosts if host in events}
        chosen = turn.with_parts(launch.layout, counts) if launch.layout.shares else None
        if chosen and turn.shares_of(chosen) != launch.layout.shares:
            raise BadAnswer(said.host, "it has begun the run on other GPUs than asked for")
        launch = on(launch, chosen or launch.layout.of(said.hosts))
        meeting = Meeting(said.master_addr, 0, said.interfaces, said.addresses)
    elif met is not None:  # as earlier versions say it
        meeting = Meeting(met.master_addr, 0, met.interfaces, met.addresses)
    else:
        raise BadAnswer(launch.sessions[0].name, "it has begun a run that was not left to it")
    wanted, choices = _tokens(launch), {}
    for session in launch.sessions:
        event, tokens = events[session.name], wanted[session.name]
        if not _is_of(event, session, tokens):
            raise BadAnswer(
                session.name, "it has begun the run on other GPUs or ports than asked for"
            )
        names = usable(session.host, session.facts).names
        called = tuple(names.get(gpu, str(gpu)) for gpu in event.gpus)
        choices[session.name] = Choice(event.gpus, called, event.ports)
    return plan_of(launch, choices, meeting)


def _require_way(launch: Launch, event: ev.BegunThere) -> None:
    """Raise BadAnswer for hosts that the run could not have chosen."""
    known = {session.name for session in launch.sessions}
    count, layout = len(event.hosts), launch.layout
    fits = layout.num_nodes <= count <= layout.largest.num_nodes
    if not fits or len(set(event.hosts) & known) != count:
        raise BadAnswer(event.host, "it has begun the run on other hosts than asked for")


def _is_of(event: ev.BegunThere, session: HostSession, tokens: Choice) -> bool:
    """Return whether these are as many GPUs and ports as the run wants, and can be."""
    there = usable(session.host, session.facts).indices
    gpus = len(event.gpus) == len(tokens.gpus) and set(event.gpus) <= set(there)
    ports = len(event.ports) == len(tokens.ports)
    return gpus and ports and all(0 < port < 1 << 16 for port in event.ports)


def _tokens(launch: Launch) -> Choices:
    """Return tokens for all that is decided there. They differ, by chance in 8 * 10^17 numbers."""
    counts = ports_of(launch)
    return {
        node.host.name: Choice.tokens(len(node.gpus), counts.get(node.host.name, 0))
        for node in launch.layout.nodes
    }


def _real(launch: Launch) -> Choices:
    """Return what could be decided there."""
    found, port, counts = {}, 20_001, ports_of(launch)
    for node in launch.layout.nodes:
        count = counts.get(node.host.name, 0)
        names = node.gpu_names or tuple(map(str, node.gpus))
        found[node.host.name] = Choice(node.gpus, names, tuple(range(port, port + count)))
        port += count
    return found


def _with_ports(peers: Peers, meeting: Meeting) -> Peers:
    """Return what hosts know of each other, with the ports of a meeting."""
    ports = {"news": meeting.news_port, "share": meeting.share_port}
    return {
        host: {
            name: {**line, "port": ports[name]} if name in ports else line
            for name, line in known.items()
        }
        for host, known in peers.items()
    }
