"""Runs that another machine started: ask the hosts of an inventory for them, and adopt one here.

What hosts hold of a run is a claim, not a record: nothing is started by it, and no value of this
machine is sent because of it, before a person has seen what it asks for (``adopted.json``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..fleet.fanout import Visited, visit_hosts
from ..records import adoption, codec
from ..records import events as ev
from ..records.adoption import Adoption
from ..records.record_files import write_json
from ..records.run_folder import RunFolder
from ..spec.errors import BadAnswer, HostError, InputError, LauncherError, UnknownRun
from ..spec.frozen import frozen
from ..spec.home import make_home
from ..spec.model import Inventory, Layout, Node, Request
from ..spec.typed_json import Mismatch, from_json, to_json
from ..transport.answers.runs import Runs, RunThere
from ..transport.ssh import AskPassphrase

#: Attempts of one run that a host may tell of.
MOST_ATTEMPTS = 1 << 16


@frozen
class HostRuns:
    """The report of one host: this user's runs there, and the running ones of all users."""

    runs: tuple[RunThere, ...]
    running: tuple[Mapping[str, Any], ...]


@frozen
class Claim:
    """What one host holds of a run; ``record`` is what all hosts of the same attempt hold alike."""

    host: str
    alive: bool
    started: bool
    waits: bool
    attempt: int
    record: Mapping[str, Any]
    request: Request
    layout: Layout


@frozen
class _Attempt:
    attempt: int = 0


async def ask_hosts(
    inventory: Inventory, ask: AskPassphrase | None
) -> dict[str, HostRuns | HostError]:
    """Return the runs on every host of an inventory, or why the host could not be asked."""

    async def one(visited: Visited) -> HostRuns:
        agent = await visited.agent()
        try:
            answer = await agent.answer(Runs, "runs")
        finally:
            await agent.close()
        return HostRuns(answer.runs, answer.going_on)

    nodes = [Node(host, 0, 0, 0, root=host.workdir) for host in inventory.on]
    return await visit_hosts(inventory, "", nodes, one, ask)


async def adopt(word: str, inventory: Inventory, ask: AskPassphrase | None) -> str:
    """Make a folder here for a run that the hosts know, and return its name. Raises InputError."""
    answers = await ask_hosts(inventory, ask)
    known: dict[str, dict[str, RunThere]] = {}
    for host, answer in answers.items():
        for run in answer.runs if isinstance(answer, HostRuns) else ():
            if run.record and (run.run == word or run.run.startswith(word)):
                known.setdefault(run.run, {})[host] = run
    if word in known:
        known = {word: known[word]}
    if len(known) != 1:
        silent = [str(answer) for answer in answers.values() if isinstance(answer, HostError)]
        what = "several runs start" if known else "no run starts"
        raise (InputError if known else UnknownRun)(
            f'{what} with "{word}" on the hosts of {inventory.source}',
            ", ".join(sorted(known)) or "; ".join(silent) or "launcher ls --all-users",
        )
    ((name, by_host),) = known.items()
    claims, wrong = _claims(name, by_host)
    if not claims:
        raise next(iter(wrong.values()))
    failed = {host: answer for host, answer in answers.items() if isinstance(answer, HostError)}
    problems = {host: error.message for host, error in {**wrong, **failed}.items()}
    _make_folder(name, claims, problems, inventory)
    return name


def _claims(
    name: str, by_host: Mapping[str, RunThere]
) -> tuple[dict[str, Claim], dict[str, LauncherError]]:
    """Return the claims of hosts, and why the answers of others are none."""
    found: dict[str, Claim] = {}
    wrong: dict[str, LauncherError] = {}
    for host, run in by_host.items():
        try:
            found[host] = _claim(name, host, run)
        except LauncherError as error:
            wrong[host] = error
    return found, wrong


def _claim(name: str, host: str, run: RunThere) -> Claim:
    """Return what one host holds. Raises BadAnswer, NewerRecord."""
    record = dict(run.record or {})
    request, layout = codec.read_run(record, f"run.json of {name} on {host}")
    try:
        attempt = from_json(_Attempt, record).attempt
    except Mismatch as error:
        raise BadAnswer(host, f"its record of {name}: {error}") from None
    if layout.run_id != name:
        raise BadAnswer(host, f"its record of {name} is one of {layout.run_id}")
    if not 0 <= attempt <= MOST_ATTEMPTS:
        raise BadAnswer(host, f"its record of {name} tells of attempt {attempt}")
    if not 0 <= float(record["started"]) <= time.time() + CLOCK_AHEAD:
        raise BadAnswer(host, f"its record of {name} is of another time")
    return Claim(host, run.alive, run.started, run.waits, attempt, record, request, layout)


#: Seconds that the clock of the machine that started a run may be ahead of this one's.
CLOCK_AHEAD = 86400.0


def _make_folder(
    name: str, claims: Mapping[str, Claim], problems: Mapping[str, str], inventory: Inventory
) -> None:
    """Make the folder as the run's own launcher would have left it, with our inventory's hosts."""
    claim = _with_chosen(_confirmed(claims), claims, problems)
    _require_leader(name, claim, claims, problems)
    ours = {host.name: host for host in inventory.hosts}
    unknown = [node.host.name for node in claim.layout.nodes if node.host.name not in ours]
    if unknown:
        raise InputError(
            f"{name} has hosts that are not in {inventory.source}: {', '.join(unknown)}",
            "name an inventory with all of its hosts: -i",
        )
    nodes = tuple(replace(node, host=ours[node.host.name]) for node in claim.layout.nodes)
    request = replace(claim.request, inventory=inventory, hosts=tuple(node.host for node in nodes))
    started = float(claim.record["started"])
    described = codec.describe_run(request, replace(claim.layout, nodes=nodes), started)
    described["job"]["secrets"] = claim.record["job"].get("secrets", [])
    path = make_home() / "runs" / name
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700)
    differing = _differing(claim, claims, problems)
    write_json(path / adoption.FILE, to_json(Adoption(claim.attempt, differing)))
    folder = RunFolder(path)
    folder.write("run.json", described)
    folder.record(ev.StageStarted(started, "run"))
    if all(node.host.name in claims and claims[node.host.name].started for node in nodes):
        folder.record(ev.AllStarted(time.time(), 0))
    first, *_ = names = [node.host.name for node in nodes]
    is_begun = claim.layout.wanted > 0 and any(one.started for one in claims.values())
    # of several, the one that leads says so, or led before; on which it began, the journals say
    leads = next((one for one in names if one in claims and claims[one].waits), None)
    if is_begun or leads:
        succeeds = leads not in (None, first)
        first, *_ = names = sorted(names, key=lambda one: one != leads)
        now, wanted, most = time.time(), claim.layout.wanted, claim.layout.most
        several = ev.WaitsOnHosts(
            now, first, tuple(names), wanted=wanted, most=most, succeeds=succeeds
        )
        folder.record(several if len(names) > 1 else ev.WaitsOnHost(now, first))
    folder.close()
    write_json(path / "shown.json", {})


def _require_leader(
    name: str, claim: Claim, claims: Mapping[str, Claim], problems: Mapping[str, str]
) -> None:
    """Raise InputError where nobody can say whether the run waits for its hosts to start it: whoever
    took it up would take its launcher for dead, and stop it."""
    first, *others = (node.host.name for node in claim.layout.nodes)
    silent = first not in claims and first in problems
    if others and silent and not any(one.started or one.waits for one in claims.values()):
        raise InputError(
            f"{name}: {first} does not answer ({problems[first]}), and no other host has started it",
            "its other hosts may be waiting for that one: attach once it answers",
        )


def _with_chosen(claim: Claim, claims: Mapping[str, Claim], problems: Mapping[str, str]) -> Claim:
    """Return a claim with the hosts on which the run has begun, if it could choose among more. Of an
    elastic one, a host that does not answer, or has not heard of it yet, may be one of these."""
    layout, begun = claim.layout, [host for host, one in claims.items() if one.started]
    others = {node.host.name for node in layout.nodes} - set(begun)
    unsure = any(one in problems or (one in claims and claims[one].alive) for one in others)
    fits = layout.num_nodes <= len(begun) <= layout.largest.num_nodes
    if not layout.wanted or not fits or (unsure and len(begun) < layout.largest.num_nodes):
        return claim
    return replace(claim, layout=layout.of(begun))


def _confirmed(claims: Mapping[str, Claim]) -> Claim:
    """Return the claim that most of its hosts hold alike; of two, the one of the later attempt: a host
    that was lost and is back still holds the nodes of its own time."""

    def confirmed(claim: Claim) -> tuple[int, int]:
        holders = (claims.get(node.host.name) for node in claim.layout.nodes)
        alike = sum(1 for one in holders if one is not None and one.record == claim.record)
        return alike, claim.attempt

    return max(claims.values(), key=confirmed)


def _differing(
    claim: Claim, claims: Mapping[str, Claim], problems: Mapping[str, str]
) -> dict[str, str]:
    """Return, by host of the run, why it does not confirm a claim."""
    found = {}
    for host in (node.host.name for node in claim.layout.nodes):
        other = claims.get(host)
        if other is None:
            found[host] = problems.get(host, "it has no record of this run")
        elif other.record != claim.record:
            found[host] = _difference(claim, other)
    for host, other in claims.items():
        if other.alive and host not in {node.host.name for node in claim.layout.nodes}:
            found[host] = f"it runs processes of this run, and {claim.host} does not name it"
    return found


def _difference(claim: Claim, other: Claim) -> str:
    """Return in which fields the records of two hosts differ, as a sentence."""
    fields = _fields(claim.record, other.record)
    if "job" in fields:
        fields.remove("job")
        fields += [f"job.{name}" for name in _fields(claim.record["job"], other.record["job"])]
    return f"its record differs from that of {claim.host}: {', '.join(fields)}"


def _fields(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
