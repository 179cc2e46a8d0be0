"""Decides about projects: what each has, which runs its quota lets begin, and who gives GPUs back.

It is pure, so that a launcher and a host come to the same decision. Nothing is believed because a host
or a user says so alone: whose a run is, is what the kernel of a host knows, and what a project may have
is what the inventory says. See docs/decisions/0066-projects.md.
"""

from __future__ import annotations

from ...host.socket_names import short
from .. import stands
from ..turns import Host, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Protocol

    from ..stands import Stand, Ticket

    class Rule(Protocol):
        """What a project may have: ``most`` with what it borrows."""

        @property
        def name(self) -> str: ...
        @property
        def quota(self) -> int: ...
        @property
        def most(self) -> float: ...
        @property
        def users(self) -> Sequence[str]: ...

    class Member(Protocol):
        """A run that uses GPUs in a project's name, or ``waits`` for them, as a host shows it."""

        @property
        def project(self) -> str: ...
        @property
        def run(self) -> str: ...
        @property
        def user(self) -> str: ...
        @property
        def gpus(self) -> int: ...
        @property
        def age(self) -> float: ...
        @property
        def preemptible(self) -> bool: ...
        @property
        def within(self) -> bool: ...
        @property
        def waits(self) -> bool: ...

    class Book(Protocol):
        """What a user's book says of a run."""

        @property
        def project(self) -> str: ...
        @property
        def run(self) -> str: ...
        @property
        def user(self) -> str: ...
        @property
        def gpus(self) -> int: ...
        @property
        def preemptible(self) -> bool: ...
        @property
        def hosts(self) -> Sequence[str]: ...

    class Said(Protocol):
        """What a host says of projects, and the user there who asks it."""

        @property
        def members(self) -> Sequence[Member]: ...
        @property
        def books(self) -> Sequence[Book]: ...
        @property
        def user(self) -> str: ...


#: The rules that hold a run back: its quota, its limit, and that too few hosts answer to decide.
QUOTA, LIMIT, NO_MAJORITY = "quota", "limit", "no-majority"


class Use(Value):
    """A run that uses GPUs in a project's name: so many on all its hosts, for ``age`` seconds (None: its
    hosts cannot be asked). The run is named as sockets name it."""

    __slots__ = ("age", "gpus", "hosts", "preemptible", "project", "run", "user")

    def __init__(
        self,
        run: str,
        user: str,
        project: str,
        gpus: int,
        preemptible: bool,
        age: float | None = None,
        hosts: Iterable[str] = (),
    ) -> None:
        self.run, self.user, self.project, self.gpus = run, user, project, gpus
        self.preemptible, self.age, self.hosts = preemptible, age, tuple(hosts)


class Standing(Value):
    """How a run stands in its project: whether its quota covers it, the rule that holds it back, what
    others ``used``, and hosts that do not answer, where that is why."""

    __slots__ = ("silent", "used", "why", "within")

    def __init__(
        self, within: bool, why: str | None = None, used: int = 0, silent: Iterable[str] = ()
    ) -> None:
        self.within, self.why, self.used, self.silent = within, why, used, tuple(silent)


# -- who decides


def majority(deciding: Mapping[str, str]) -> int:
    """Return on how many hosts a quota is decided: any two such sets have a host in common. ``deciding``
    has each host, with the one that decides for its machine."""
    return len(set(deciding.values())) // 2 + 1


def suffice(hosts: Iterable[str], deciding: Mapping[str, str]) -> bool:
    """Return whether these hosts are enough to decide about a quota."""
    return len({deciding[host] for host in hosts if host in deciding}) >= majority(deciding)


def no_majority(hosts: Collection[str], deciding: Mapping[str, str]) -> Standing:
    """Return how a run stands where these hosts are too few to decide."""
    return Standing(False, NO_MAJORITY, silent=[host for host in deciding if host not in hosts])


# -- who has what


def uses(rules: Iterable[Rule], said: Mapping[str, Said], deciding: Mapping[str, str]) -> list[Use]:
    """Return the runs that use GPUs in the name of projects, by what hosts say.

    A run counts while one of its own hosts shows it, and while one that may do so cannot be asked.
    What anybody says of a project that is not theirs counts for nothing.
    """
    users = {rule.name: frozenset(rule.users) for rule in rules}
    found: dict[tuple[str, str], Use] = {}
    for host, there in said.items():
        for one in there.members:
            if not one.waits and one.user in users.get(one.project, ()):
                shown = (one.run, one.user, one.project, one.gpus, one.preemptible)
                _count(found, Use(*shown, one.age, [host]))
    for there in said.values():
        for book in there.books:
            if book.user not in users.get(book.project, ()):
                continue
            run = short(book.run)
            if (run, book.project) in found or not _is_over(book, said, deciding):
                written = (run, book.user, book.project, book.gpus, book.preemptible)
                _count(found, Use(*written, None, book.hosts))
    return list(found.values())


def _count(found: dict[tuple[str, str], Use], use: Use) -> None:
    """Add a use to those that are known; of what is said twice of a run, the larger counts."""
    known = found.get((use.run, use.project), use)
    ages = [age for age in (known.age, use.age) if age is not None]
    found[use.run, use.project] = Use(
        known.run,
        known.user,
        known.project,
        max(known.gpus, use.gpus),
        known.preemptible and use.preemptible,
        max(ages) if ages else None,
        sorted({*known.hosts, *use.hosts}),
    )


def over(
    there: Said, said: Mapping[str, Said], deciding: Mapping[str, str], project: str
) -> list[str]:
    """Return the runs of a project in the book of a host's own user that are over, by what all hosts
    say. Only who has locked a project knows that of it: a run that is about to begin is in a book, too.
    """
    shown = {
        (one.run, one.project) for each in said.values() for one in each.members if not one.waits
    }
    return [
        book.run
        for book in there.books
        if book.project == project
        and book.user == there.user
        and (short(book.run), book.project) not in shown
        and _is_over(book, said, deciding)
    ]


def _is_over(book: Book, said: Mapping[str, Said], deciding: Mapping[str, str]) -> bool:
    """Return whether none of its own hosts shows a run any more. Hosts that are no part of the inventory
    count for nothing."""
    return all(host in said for host in book.hosts if host in deciding)


def vouched(rules: Iterable[Rule], members: Iterable[Member]) -> set[tuple[str, str]]:
    """Return the runs, each with its user, whose tickets may say that a quota covers them: a host shows
    that they wait in the name of a project of that user's."""
    users = {rule.name: frozenset(rule.users) for rule in rules}
    return {
        (one.run, one.user)
        for one in members
        if one.waits and one.within and one.user in users.get(one.project, ())
    }


# -- who may begin


def standing(rule: Rule, used: Iterable[Use], run: str, gpus: int, preemptible: bool) -> Standing:
    """Return how a run stands that wants so many GPUs in the name of a project.

    The quota is for what is not preemptible first: the rest is what can be taken back.
    """
    others = [use for use in used if use.project == rule.name and use.run != short(run)]
    firm = sum(use.gpus for use in others if not use.preemptible)
    total = sum(use.gpus for use in others)
    within = (total if preemptible else firm) + gpus <= rule.quota
    if not within and not preemptible:
        return Standing(False, QUOTA, total)
    if total + gpus > rule.most:
        return Standing(within, LIMIT, total)
    return Standing(within, None, total)


# -- who gives GPUs back


def borrowing(rules: Iterable[Rule], used: Iterable[Use]) -> list[Use]:
    """Return the runs that have GPUs beyond the quota of their project, the youngest first:
    what is not preemptible has the quota first, and then what is older."""
    found, known = [], list(used)
    for rule in rules:
        mine = [use for use in known if use.project == rule.name]
        taken = 0
        for use in sorted(mine, key=lambda use: (use.preemptible, -(use.age or 0.0), use.run)):
            taken += use.gpus
            if taken > rule.quota and use.preemptible:
                found.append(use)
    return sorted(found, key=lambda use: (use.age or 0.0, use.run))


def to_take_back(
    known: Sequence[Stand],
    run: str,
    borrowed: Iterable[Use],
    begins: Callable[[Sequence[Stand]], bool],
) -> list[str]:
    """Return the runs whose GPUs a run takes back to begin: as few and as young ones as suffice; none
    where all of them would not. ``begins`` says whether it would be its turn as things stand."""
    there = {name for stand in known for name in stand.running}
    chosen: list[str] = []
    for use in borrowed:
        if use.run not in there or use.run == short(run):
            continue
        chosen.append(use.run)
        if begins(_without(known, chosen)):
            for one in list(chosen):
                fewer = [other for other in chosen if other != one]
                if fewer and begins(_without(known, fewer)):
                    chosen = fewer
            return chosen
    return []


def _without(known: Iterable[Stand], gone: Collection[str]) -> list[Stand]:
    """Return how things would stand if these runs were gone."""
    return [
        stands.Stand(
            one.name,
            Host(
                one.host.gpus, [use for use in one.host.uses if short(use.name) not in gone],
                one.host.last,
            ),
            _tickets_without(one.tickets, gone),
            one.running.difference(gone),
        )
        for one in known
    ]  # fmt: skip


def _tickets_without(tickets: Iterable[Ticket], gone: Collection[str]) -> list[Ticket]:
    return [one for one in tickets if one.run not in gone]


def enough_for_limit(
    rule: Rule, used: Iterable[Use], run: str, gpus: int, borrowed: Iterable[Use]
) -> list[str]:
    """Return the runs of the same project that give GPUs back so that it stays below its limit."""
    others = [use for use in used if use.project == rule.name and use.run != short(run)]
    left = sum(use.gpus for use in others) + gpus - rule.most
    chosen = []
    for use in borrowed:
        if left > 0 and use.project == rule.name and use.run != short(run):
            chosen.append(use.run)
            left -= use.gpus
    return chosen if left <= 0 else []
