"""Finds an address and port of the master that every other host can reach, before anything starts.

The master's agent listens on a free port; all other agents try all its addresses at once. Only an
answer with this run's token counts, so a name that resolves to each host itself, or another program on
that port, cannot pass.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from ..jobs import planner
from ..spec.addresses import endpoint, is_address, version
from ..spec.errors import BadAnswer, MeetingError
from ..spec.model import Job, Meeting
from ..transport.answers.network import Listening, Reached
from .concurrency import together
from .host_session import HostSession

#: Seconds to wait for a connection between two hosts of one site.
PATIENCE = 4.0


async def meet(
    job: Job, sessions: Sequence[HostSession], ports: Mapping[str, int] | None = None
) -> Meeting:
    """Return the meeting point of these hosts, of which the first is the master.

    ``ports`` is how many more ports each host's processes need: its agent listens on each, and
    releases it just before they start. The master has one more, for broadcasts between hosts.

    Raises MeetingError.
    """
    token, more = secrets.token_hex(16), ports or {}
    listening = [
        session for session in sessions if session is sessions[0] or more.get(session.name)
    ]
    answered = await together(
        session.agent.answer(
            Listening,
            "listen",
            ports=list(job.master_port),
            token=token,
            more=more.get(session.name, 0),
            news=session is sessions[0] and len(sessions) > 1,
        )
        for session in listening
    )
    try:
        meeting = await _meet(job, sessions, answered[0].port, token)
    finally:
        for session in listening:
            if not session.agent.closed.done():
                await session.agent.ask("unlisten")
    own = zip(listening, answered, strict=True)
    held = {session.name: told.more for session, told in own}
    return replace(meeting, ports=held, news_port=answered[0].news)


def alone(
    job: Job, session: HostSession, port: int | str, more: Sequence[int | str] = ()
) -> Meeting:
    """Return the meeting point of a run on one host."""
    name = session.name
    (address, *_) = planner.master_candidates(job, session.host, session.facts, alone=True)
    interface = {name: session.host.interface or planner.LOOPBACK}
    ports = {name: tuple(more)} if more else {}
    return Meeting(address, port, interface, {name: address}, ports)


_Tries = Mapping[str, Mapping[str, Reached]]


async def _meet(job: Job, sessions: Sequence[HostSession], port: int, token: str) -> Meeting:
    master, others = sessions[0], sessions[1:]
    if not others:
        return alone(job, master, port)
    candidates = planner.master_candidates(job, master.host, master.facts, alone=False)
    groups = _groups(job, sessions, candidates)
    reached: dict[str, dict[str, Reached]] = {session.name: {} for session in others}
    for group in groups:
        tries = await together(_try(session, group, port, token) for session in others)
        for session, tried in zip(others, tries, strict=True):
            reached[session.name].update(tried)
        for address in group:
            if all(reached[host][address].ok for host in reached):
                return _met(master, address, port, reached)
    raise _nobody_met(job, master, port, list(chain(*groups)), reached)


def _groups(
    job: Job, sessions: Sequence[HostSession], candidates: Sequence[str]
) -> list[tuple[str, ...]]:
    """Return the addresses to try at once, by their version of IP, if all hosts have that.

    IPv6 is tried where IPv4 leads nowhere: a firewall that drops it would cost every start seconds.
    """
    if job.master_addr:
        return [tuple(candidates)]
    shared = planner.shared_versions(job, [session.facts for session in sessions])
    by_version: dict[int, tuple[str, ...]] = {}
    for address in candidates:
        number = version(address)
        by_version[number] = (*by_version.get(number, ()), address)
    return [group for number, group in by_version.items() if number in shared]


def _met(master: HostSession, address: str, port: int, reached: _Tries) -> Meeting:
    addresses = {host: tried[address].local for host, tried in reached.items()}
    own = next(iter(reached.values()))[address].ip
    addresses[master.name] = address if is_address(address) else own
    return Meeting(address, port, _interfaces(master, address, reached), addresses)


async def _try(
    session: HostSession, candidates: Sequence[str], port: int, token: str
) -> Mapping[str, Reached]:
    """Try all addresses from one host. Raises HostError."""
    tried = await session.agent.answer(
        dict[str, Reached],
        "connect", addresses=candidates, port=port, token=token, seconds=PATIENCE,
    )  # fmt: skip
    if set(tried) != set(candidates):
        raise BadAnswer(session.name, "its answer to connect names other addresses than asked for")
    return tried


def _interfaces(master: HostSession, address: str, reached: _Tries) -> dict[str, str]:
    """Return every host's interface towards the master, and the master's one that was reached."""
    found = {host: tries[address].interface for host, tries in reached.items()}
    target = next(iter(reached.values()))[address].ip
    own = [name for name, ip in master.facts.addresses if ip == target]
    found[master.name] = own[0] if own else None
    return {host: interface for host, interface in found.items() if interface}


def _nobody_met(
    job: Job, master: HostSession, port: int, candidates: Sequence[str], reached: _Tries
) -> MeetingError:
    pairs = [
        f"{host} cannot reach {master.name} at {_tried(tries, candidates, port)}"
        for host, tries in reached.items()
        if not any(tries[address].ok for address in candidates)
    ]
    if not pairs:
        pairs = [
            f"no single address of {master.name} is reachable from all hosts: "
            + "; ".join(f"{host} reaches {_good(tries)}" for host, tries in reached.items())
        ]
    return MeetingError("; ".join(pairs), _hint(job, reached, candidates))


def _good(tries: Mapping[str, Reached]) -> str:
    return ", ".join(address for address, result in tries.items() if result.ok) or "none"


def _tried(tries: Mapping[str, Reached], candidates: Sequence[str], port: int) -> str:
    shown = [a for a in candidates if not a.startswith("127.")] or list(candidates)
    return ", ".join(_one(address, tries[address], port) for address in shown)


def _one(address: str, result: Reached, port: int) -> str:
    if result.error == "unresolved":
        return f"{address} (the name does not resolve there)"
    place = endpoint(address, port) + ("" if address == result.ip else f" = {result.ip}")
    if result.ip.startswith("127.") and address != result.ip:
        return f"{place} (the name resolves to the host itself there)"
    causes = {
        "timeout": "no answer: a firewall drops it",
        "refused": "refused: a firewall rejects it, or it is another machine",
        "stranger": "another program answered",
    }
    return f"{place} ({causes.get(result.error, result.why)})"


def _hint(job: Job, reached: _Tries, candidates: Sequence[str]) -> str:
    results = [tries[address] for tries in reached.values() for address in candidates]
    if any(r.ip.startswith("127.") and not r.ok for r in results) and job.master_addr:
        return (
            "/etc/hosts there maps the name to loopback: pass an IP address with --master-addr, or "
            "leave it out"
        )
    if any(r.error == "timeout" for r in results if not r.ok):
        low, high = job.master_port
        return (
            f"open TCP ports {low} to {high} between the hosts, or pass an open range with "
            "--master-port"
        )
    return "name the network that they share: interface: in the inventory, or --master-addr"
