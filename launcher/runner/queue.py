"""Everybody's queue: who holds the GPUs of the hosts, who waits for them, and what for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import field, replace

from ..fleet.fanout import Visited, visit_hosts
from ..jobs.gpus import with_foreign_held
from ..records.reasons import WaitReason
from ..spec.errors import HostError
from ..spec.frozen import frozen
from ..spec.model import Inventory, Node
from ..transport.agent_client import Agent
from ..transport.answers.queue import Turns, WaitingThere
from ..transport.ssh import AskPassphrase
from .policy import turn
from .policy.turn import Begin, Stand, Wait

#: Stands for a run, where somebody only looks.
NOBODY = "nobody"


@frozen
class Holding:
    """A run that holds GPUs, ``gpus`` by host; without a name it is somebody outside launcher.

    ``since`` is when it got them, and ``until`` when it is ended at the latest, in seconds since the
    epoch by this machine's clock; None where nobody knows. A ``preemptible`` run of a ``project`` may
    have to give them back.
    """

    run: str
    user: str
    gpus: Mapping[str, tuple[int, ...]]
    since: float | None = None
    until: float | None = None
    project: str = ""
    preemptible: bool = False


@frozen
class Waiting:
    """A run that waits on ``hosts`` for GPUs, ``shares`` of them on each node.

    It is number ``place``; None if it holds nobody back, since it can begin nowhere now. ``why`` is None
    for one that begins now; see :class:`launcher.records.events.RunWaits` for the rest. ``elsewhere``
    is on how many hosts it waits that were not asked. ``by_itself``: its host starts it; any other run
    needs its launcher. ``within``: the quota of its project covers it, so it goes first. ``full`` are
    hosts whose disk is too full to write down that it begins, and ``missing`` those that do not reach
    the host which decides, where too few do. ``leads`` is the host that decides when it begins, where
    another one would if that was gone.
    """

    run: str
    user: str
    place: int | None
    priority: int
    shares: tuple[int, ...]
    hosts: tuple[str, ...]
    since: float
    time_limit: float | None = None
    why: WaitReason | None = None
    runs: tuple[str, ...] = ()
    users: Mapping[str, str] = field(default_factory=dict)
    latest: float | None = None
    elsewhere: int = 0
    by_itself: bool = False
    project: str = ""
    preemptible: bool = False
    within: bool = False
    full: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    leads: str = ""


@frozen
class Queue:
    """Who holds GPUs, the first one first, and who waits, in the order of their turns."""

    holding: tuple[Holding, ...]
    waiting: tuple[Waiting, ...]
    gpus: int
    free: int


async def ask(
    inventory: Inventory, ask_passphrase: AskPassphrase | None
) -> dict[str, Stand | HostError]:
    """Ask all hosts how things stand there; return that, or why a host could not be asked."""

    async def one(visited: Visited) -> Stand:
        agent = await visited.agent()
        try:
            facts = await agent.probe()
            said = await agent.answer(Turns, "turn", run=NOBODY, ticket=None, wait=0.0)
            missing = await _missing(agent, said, known)
        finally:
            await agent.close()
        return Stand(visited.node.host, with_foreign_held(facts), said, missing=missing)

    known = frozenset(host.name for host in inventory.hosts)
    nodes = [Node(host, 0, 0, 0, root=host.workdir) for host in inventory.on]
    return await visit_hosts(inventory, "", nodes, one, ask_passphrase)


async def _missing(agent: Agent, said: Turns, known: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """Return which hosts do not reach this one, of those that are to decide with it: of runs of our own
    that lack a majority, as nobody else may ask."""
    found = {}
    for one in said.members:
        if one.waits and one.held == WaitReason.NO_MAJORITY:
            with suppress(HostError):
                there = (await agent.ask("gang", run=one.run)).get("missing")
                names = there if isinstance(there, list) else []
                found[one.run] = tuple(name for name in names if name in known)
    return found


def queue_of(stands: Sequence[Stand], now: float) -> Queue:
    """Return the queue as these hosts show it."""
    free = {
        one.host.name: set(one.gpus).difference(*(use.gpus for use in one.uses)) for one in stands
    }
    return Queue(
        holding=_holding(stands, now),
        waiting=_waiting(stands, now),
        gpus=sum(len(one.gpus) for one in stands),
        free=sum(map(len, free.values())),
    )


def _holding(stands: Sequence[Stand], now: float) -> tuple[Holding, ...]:
    found: dict[tuple[str, str], Holding] = {}
    for stand in stands:
        for index, holder in sorted(stand.held.items()):
            who = (holder.run or "", str(holder.user or "?"))
            since = None if not holder.since else holder.since - stand.facts.clock_offset
            known = found.get(who) or Holding(*who, {}, since)
            times = [time for time in (known.since, since) if time is not None]
            host = stand.host.name
            found[who] = Holding(
                *who,
                {**known.gpus, host: (*known.gpus.get(host, ()), index)},
                min(times, default=None),
                known.until if holder.left is None else now + holder.left,
                *_project(stand, holder.run or "", who[1]),
            )
    return tuple(sorted(found.values(), key=lambda one: (one.since or 0.0, one.run)))


def _project(stand: Stand, run: str, user: str) -> tuple[str, bool]:
    """Return the project of a run that holds GPUs, and whether it may have to give them back."""
    for member in stand.said.members:
        if member.run == turn.short(run) and member.user == user and not member.waits:
            return member.project, member.preemptible
    return "", False


def _waiting(stands: Sequence[Stand], now: float) -> tuple[Waiting, ...]:
    answers = {one.name: one for one in turn.decide(stands)}
    users = turn.users(stands)
    tickets = turn.waiting(stands)
    found = [
        _by_project(_entry(run, there, answers.get(run), tickets, users, now), stands)
        for run, there in tickets.items()
    ]
    behind = len(found) + 1
    return tuple(sorted(found, key=lambda one: behind if one.place is None else one.place))


def _by_project(entry: Waiting, stands: Sequence[Stand]) -> Waiting:
    """Return the entry with its project, and the rule of it that holds the run back."""
    for member in (one for stand in stands for one in stand.said.members):
        if member.run == entry.run and member.user == entry.user and member.waits:
            entry = replace(
                entry,
                project=member.project,
                preemptible=member.preemptible,
                within=member.within,
            )
            if member.held in _RULES:
                lacking = [name for one in stands for name in one.missing.get(entry.run, ())]
                return replace(
                    entry,
                    place=None,
                    why=WaitReason(member.held),
                    runs=(),
                    latest=None,
                    missing=tuple(dict.fromkeys(lacking)),
                )
            return entry
    return entry


#: What a claim may say of a rule that holds a run back.
_RULES = (WaitReason.QUOTA, WaitReason.LIMIT, WaitReason.NO_MAJORITY)


def _entry(
    run: str,
    there: Mapping[str, WaitingThere],
    answer: Begin | Wait | None,
    tickets: Collection[str],
    users: Mapping[str, str],
    now: float,
) -> Waiting:
    ticket = next(iter(there.values()))
    entry = Waiting(
        run,
        ticket.user,
        0 if isinstance(answer, Begin) else None,
        ticket.priority,
        tuple(len(one.only) for one in there.values()) if ticket.only else ticket.sizes,
        tuple(there),
        now - max(one.waited for one in there.values()),
        ticket.seconds,
        WaitReason.HOSTS_MISSING if answer is None else None,
        elsewhere=max(0, ticket.hosts - len(there)),
        by_itself=any(one.by_itself for one in there.values()),
        leads=next((host for host, one in there.items() if one.leads), ""),
    )
    if any(one.unsure for one in there.values()):
        return replace(entry, place=None, why=WaitReason.MAY_HAVE_BEGUN)
    if not entry.leads and all(one.no_leader for one in there.values()):
        return replace(entry, place=None, why=WaitReason.NO_LEADER)
    if isinstance(answer, Begin) and (full := tuple(h for h, one in there.items() if one.no_room)):
        return replace(entry, why=WaitReason.NO_ROOM, full=full)
    if not isinstance(answer, Wait):
        return entry
    return replace(
        entry,
        place=answer.place,
        why=turn.reason(answer, tickets),
        runs=answer.runs,
        users={one: users[one] for one in answer.runs if one in users},
        latest=None if answer.seconds is None else now + answer.seconds,
    )
