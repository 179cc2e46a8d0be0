"""Decide about projects: what each of them has, which runs its quota lets begin, and who gives GPUs
back. Pure.

Nothing here is believed because a host or a user says so alone: whose a run is, is what the kernel of a
host knows, and what a project may have is what the inventory says. See docs/decisions/0066-projects.md.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ...records.reasons import WaitReason
from ...spec.errors import InputError, suggestion
from ...spec.frozen import frozen
from ...spec.model import Inventory, Project
from ...transport.answers import BookThere, MemberThere, ProjectsThere, Turns
from . import turn
from .turn import Begin, Stand, short


@frozen
class Use:
    """A run that uses GPUs in a project's name: so many on all its hosts, for ``age`` seconds (None: its
    hosts cannot be asked). The run is named as sockets name it."""

    run: str
    user: str
    project: str
    gpus: int
    preemptible: bool
    age: float | None = None
    hosts: tuple[str, ...] = ()


@frozen
class Standing:
    """How a run stands in its project: whether its quota covers it, and the rule that holds it back."""

    within: bool
    why: WaitReason | None = None
    used: int = 0  # by others
    silent: tuple[str, ...] = ()  # hosts that do not answer, where that is why


def voters(inventory: Inventory) -> dict[str, str]:
    """Return the hosts of an inventory, each with the one that decides for its machine: itself, unless
    hosts share one on purpose. A host that is off counts: others may still see it."""
    first: dict[tuple[str | None, int | None], str] = {}
    found = {}
    for host in sorted(inventory.hosts, key=lambda host: host.name):
        place = (host.address, host.port)
        alone = not host.shares_machine or host.address is None or inventory.sandbox
        found[host.name] = host.name if alone else first.setdefault(place, host.name)
    return found


def majority(deciding: Mapping[str, str]) -> int:
    """Return on how many hosts a quota is decided: any two such sets have a host in common."""
    return len(set(deciding.values())) // 2 + 1


def uses(
    rules: Iterable[Project], said: Mapping[str, ProjectsThere], deciding: Mapping[str, str]
) -> tuple[Use, ...]:
    """Return the runs that use GPUs in the name of projects, by what hosts say.

    A run counts while one of its own hosts shows it, and while one that may do so cannot be asked.
    What anybody says of a project that is not theirs counts for nothing.
    """
    users = {rule.name: frozenset(rule.users) for rule in rules}
    found: dict[tuple[str, str], Use] = {}
    for host, there in said.items():
        for member in there.members:
            if not member.waits and member.user in users.get(member.project, ()):
                _count(found, _of_member(member, host))
    for there in said.values():
        for book in there.books:
            if book.user not in users.get(book.project, ()):
                continue
            key = (short(book.run), book.project)
            if key in found or not _is_over(book, said, deciding):
                _count(found, _of_book(book))
    return tuple(found.values())


def _of_member(member: MemberThere, host: str) -> Use:
    return Use(
        member.run,
        member.user,
        member.project,
        member.gpus,
        member.preemptible,
        member.age,
        (host,),
    )


def _of_book(book: BookThere) -> Use:
    run = short(book.run)
    return Use(run, book.user, book.project, book.gpus, book.preemptible, None, book.hosts)


def _count(found: dict[tuple[str, str], Use], use: Use) -> None:
    """Add a use to those that are known; of what is said twice of a run, the larger counts."""
    known = found.get((use.run, use.project), use)
    ages = [age for age in (known.age, use.age) if age is not None]
    found[use.run, use.project] = replace(
        known,
        gpus=max(known.gpus, use.gpus),
        preemptible=known.preemptible and use.preemptible,
        age=max(ages, default=None),
        hosts=tuple(sorted({*known.hosts, *use.hosts})),
    )


def over(
    there: ProjectsThere, said: Mapping[str, ProjectsThere], deciding: Mapping[str, str]
) -> tuple[str, ...]:
    """Return the runs in the book of a host's own user that are over, by what all hosts say."""
    shown = {
        (one.run, one.project) for each in said.values() for one in each.members if not one.waits
    }
    return tuple(
        book.run
        for book in there.books
        if book.user == there.user
        and (short(book.run), book.project) not in shown
        and _is_over(book, said, deciding)
    )


def _is_over(
    book: BookThere, said: Mapping[str, ProjectsThere], deciding: Mapping[str, str]
) -> bool:
    """Return whether none of its own hosts shows a run any more. Hosts that are no part of the inventory
    count for nothing."""
    return all(host in said for host in book.hosts if host in deciding)


def vouched(rules: Iterable[Project], said: Turns) -> Turns:
    """Return what a host says, without tickets that claim a quota which is not their user's."""
    users = {rule.name: frozenset(rule.users) for rule in rules}
    known = {
        (member.run, member.user)
        for member in said.members
        if member.waits and member.within and member.user in users.get(member.project, ())
    }
    if all((one.run, one.user) in known for one in said.tickets if one.within):
        return said
    tickets = (
        replace(one, within=one.within and (one.run, one.user) in known) for one in said.tickets
    )
    return replace(said, tickets=tuple(tickets))


def standing(
    rule: Project, used: Iterable[Use], run: str, gpus: int, preemptible: bool
) -> Standing:
    """Return how a run that wants so many GPUs stands in its project.

    Runs that are not preemptible never have more than the quota together, and all of a project never
    more than its limit.
    """
    others = [use for use in used if use.project == rule.name and use.run != short(run)]
    total = sum(use.gpus for use in others)
    firm = sum(use.gpus for use in others if not use.preemptible)
    within = (total if preemptible else firm) + gpus <= rule.quota
    if not within and not preemptible:
        return Standing(False, WaitReason.QUOTA, total)
    if total + gpus > rule.most:
        return Standing(within, WaitReason.LIMIT, total)
    return Standing(within, None, total)


def borrowing(rules: Iterable[Project], used: Sequence[Use]) -> tuple[Use, ...]:
    """Return the preemptible runs whose GPUs are beyond the quota of their project, the youngest first:
    what is not preemptible has the quota first, and then what is older."""
    found = []
    for rule in rules:
        mine = [use for use in used if use.project == rule.name]
        taken = 0
        for use in sorted(mine, key=lambda use: (use.preemptible, -(use.age or 0.0), use.run)):
            taken += use.gpus
            if taken > rule.quota and use.preemptible:
                found.append(use)
    return tuple(sorted(found, key=lambda use: (use.age or 0.0, use.run)))


def to_take_back(
    stands: Sequence[Stand], run: str, hosts: Collection[str], borrowed: Sequence[Use]
) -> tuple[str, ...]:
    """Return the runs whose GPUs a run takes back to begin: as few and as young ones as suffice; none
    where all of them would not."""
    there = {short(one.run or "") for stand in stands for one in stand.said.leased.values()}
    chosen: list[str] = []
    for use in borrowed:
        if use.run not in there or use.run == short(run):
            continue
        chosen.append(use.run)
        if _begins(stands, run, hosts, chosen):
            for one in list(chosen):
                fewer = [other for other in chosen if other != one]
                if fewer and _begins(stands, run, hosts, fewer):
                    chosen = fewer
            return tuple(chosen)
    return ()


def _begins(
    stands: Sequence[Stand], run: str, hosts: Collection[str], gone: Collection[str]
) -> bool:
    """Return whether it would be the turn of a run if these others were gone."""
    left = [
        replace(
            stand,
            said=replace(
                stand.said,
                leased={
                    gpu: holder
                    for gpu, holder in stand.said.leased.items()
                    if short(holder.run or "") not in gone
                },
                tickets=tuple(one for one in stand.said.tickets if one.run not in gone),
            ),
        )
        for stand in stands
    ]
    return isinstance(turn.of_run(turn.decide(left, run, hosts), run), Begin)


def enough_for_limit(
    rule: Project, used: Sequence[Use], run: str, gpus: int, borrowed: Sequence[Use]
) -> tuple[str, ...]:
    """Return the runs of the same project that give GPUs back so that it stays below its limit."""
    others = [use for use in used if use.project == rule.name and use.run != short(run)]
    over = sum(use.gpus for use in others) + gpus - rule.most
    chosen = []
    for use in borrowed:
        if over > 0 and use.project == rule.name and use.run != short(run):
            chosen.append(use.run)
            over -= use.gpus
    return tuple(chosen) if over <= 0 else ()


# -- what cannot be


def rule_of(inventory: Inventory, name: str) -> Project:
    """Return the rule of a project. Raises InputError."""
    names = [project.name for project in inventory.projects]
    if name in names:
        return inventory.project(name)
    if not names:
        raise InputError(
            f"project {name}: {inventory.source} has no projects",
            f"add them there: projects: {{{name}: {{quota: 4, users: [ann, bob]}}}}",
        )
    raise InputError(
        f"project {name}: there is no such project in {inventory.source}",
        suggestion(name, names) or f"projects: {', '.join(names)}",
    )


def require_fit(rule: Project, gpus: int, preemptible: bool) -> None:
    """Raise InputError for a run that can never begin."""
    if gpus > rule.most:
        raise InputError(
            f"{gpus} GPUs are more than project {rule.name} may ever have: its limit is {rule.limit}",
            f"ask for {rule.limit} at most",
        )
    if gpus > rule.quota and not preemptible:
        most = "all that are free" if rule.limit is None else str(rule.limit)
        raise InputError(
            f"{gpus} GPUs are more than the quota of project {rule.name}, which is {rule.quota}",
            f"--preemptible borrows up to {most}, and gives GPUs back when others need them",
        )


def require_user(rule: Project, user: str, host: str) -> None:
    """Raise InputError for a user who may not use a project."""
    if user not in rule.users:
        raise InputError(
            f"{user} on {host} may not use project {rule.name}: its users are "
            f"{', '.join(rule.users)}",
            "whoever keeps the inventory adds users to it; these are the users of the hosts",
        )
