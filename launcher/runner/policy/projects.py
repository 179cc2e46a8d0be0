"""Decide about projects: what each of them has, which runs its quota lets begin, and who gives GPUs
back. Pure.

The rules themselves are those of :mod:`launcher.agent.supervisor.projects.quotas`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from ...agent.supervisor import stands as there
from ...agent.supervisor.projects import quotas
from ...agent.supervisor.projects.quotas import Use as Use
from ...agent.supervisor.projects.quotas import majority as majority
from ...agent.supervisor.projects.quotas import suffice as suffice
from ...records.reasons import WaitReason
from ...spec.errors import InputError, suggestion
from ...spec.frozen import frozen
from ...spec.model import Inventory, Project
from ...transport.answers.queue import ProjectsThere, Turns
from . import turn
from .turn import Begin, Stand, short


@frozen
class Standing:
    """How a run stands in its project: whether its quota covers it, and the rule that holds it back."""

    within: bool
    why: WaitReason | None = None
    used: int = 0  # by others
    silent: tuple[str, ...] = ()  # hosts that do not answer, where that is why


def _standing_of(found: quotas.Standing) -> Standing:
    why = None if found.why is None else WaitReason(found.why)
    return Standing(found.within, why, found.used, found.silent)


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


def no_majority(hosts: Collection[str], deciding: Mapping[str, str]) -> Standing:
    """Return how a run stands where these hosts are too few to decide."""
    return _standing_of(quotas.no_majority(hosts, deciding))


def uses(
    rules: Iterable[Project], said: Mapping[str, ProjectsThere], deciding: Mapping[str, str]
) -> tuple[Use, ...]:
    """Return the runs that use GPUs in the name of projects, by what hosts say."""
    return tuple(quotas.uses(rules, said, deciding))


def over(
    there: ProjectsThere,
    said: Mapping[str, ProjectsThere],
    deciding: Mapping[str, str],
    project: str,
) -> tuple[str, ...]:
    """Return the runs of a project in the book of a host's own user that are over, by what all hosts
    say."""
    return tuple(quotas.over(there, said, deciding, project))


def vouched(rules: Iterable[Project], said: Turns) -> Turns:
    """Return what a host says, without tickets that claim a quota which is not their user's."""
    known = quotas.vouched(rules, said.members)
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
    return _standing_of(quotas.standing(rule, used, run, gpus, preemptible))


def borrowing(rules: Iterable[Project], used: Sequence[Use]) -> tuple[Use, ...]:
    """Return the runs that have GPUs beyond the quota of their project, the youngest first."""
    return tuple(quotas.borrowing(rules, used))


def to_take_back(
    stands: Sequence[Stand], run: str, hosts: Collection[str], borrowed: Sequence[Use]
) -> tuple[str, ...]:
    """Return the runs whose GPUs a run takes back to begin: as few and as young ones as suffice; none
    where all of them would not."""

    def begins(left: Sequence[there.Stand]) -> bool:
        return isinstance(turn.of_run(there.decide(left, short(run), hosts), run), Begin)

    return tuple(quotas.to_take_back(turn.seen(stands), run, borrowed, begins))


def enough_for_limit(
    rule: Project, used: Sequence[Use], run: str, gpus: int, borrowed: Sequence[Use]
) -> tuple[str, ...]:
    """Return the runs of the same project that give GPUs back so that it stays below its limit."""
    return tuple(quotas.enough_for_limit(rule, used, run, gpus, borrowed))


# -- what cannot be


#: What a run or a reservation may do where its project is not there.
WITHOUT = "--project none does without, whatever settings say"


def rule_of(inventory: Inventory, name: str, instead: str = "") -> Project:
    """Return the rule of a project. Raises InputError, with what else the user may do."""
    names = [project.name for project in inventory.projects]
    if name in names:
        return inventory.project(name)
    if not names:
        example = f"projects: {{{name}: {{quota: 4, users: [ann, bob]}}}}"
        raise InputError(
            f"project {name}: {inventory.source} has no projects",
            "; ".join(filter(None, (f"add them there: {example}", instead))),
        )
    known = suggestion(name, names) or f"projects: {', '.join(names)}"
    raise InputError(
        f"project {name}: there is no such project in {inventory.source}",
        "; ".join(filter(None, (known, instead))),
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
