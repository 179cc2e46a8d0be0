"""Turns what hosts say of their queue into the question of turns.py. Pure.

A launcher asks it of all hosts of its run, and a supervisor of its own host.
"""

from __future__ import annotations

from . import turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Protocol, TypeVar

    from ..base.messages import TicketFacts
    from .turns import Begin, Wait

    class Ticket(Protocol):
        """The ticket of a waiting run on a host; ``sizes`` are the GPUs of each node, ``only`` those
        of this host that it wants, where no others would do, and ``part`` how many of this host, or 0
        where it may choose."""

        @property
        def run(self) -> str: ...
        @property
        def priority(self) -> int: ...
        @property
        def number(self) -> int: ...
        @property
        def sizes(self) -> tuple[int, ...]: ...
        @property
        def seconds(self) -> float | None: ...
        @property
        def hosts(self) -> int: ...
        @property
        def aside(self) -> bool: ...
        @property
        def only(self) -> Sequence[int]: ...
        @property
        def part(self) -> int: ...
        @property
        def within(self) -> bool: ...

    T = TypeVar("T", bound=Ticket)


class Stand:
    """A host in sight, the tickets there, and the runs that hold GPUs of it."""

    __slots__ = ("host", "name", "running", "tickets")

    def __init__(
        self, name: str, host: turns.Host, tickets: Sequence[Ticket], running: Iterable[str]
    ) -> None:
        self.name, self.host = name, host
        self.tickets, self.running = tickets, frozenset(running)


class Entered:
    """A ticket as the host reads it from its name."""

    __slots__ = (
        *("aside", "hosts", "number", "only", "part", "priority", "run", "seconds", "sizes"),
        "within",
    )

    def __init__(self, facts: TicketFacts) -> None:
        self.run, self.priority, self.number = facts["run"], facts["priority"], facts["number"]
        self.seconds, self.hosts, self.aside = facts["seconds"], facts["hosts"], facts["aside"]
        self.only, self.within = tuple(facts.get("only") or ()), facts.get("within", False)
        self.part = facts.get("part", 0)
        pairs = sorted(facts["shares"], key=lambda pair: -pair[1])
        self.sizes = tuple(size for count, size in pairs for _ in range(count))


def waiting(stands: Iterable[tuple[str, Sequence[T], frozenset[str]]]) -> dict[str, dict[str, T]]:
    """Return the tickets by run and host, where the run has no GPUs; see :class:`Stand`.

    It may have two on a host for a while: the first counts. A run that may start again keeps its ticket
    while it runs, so that nobody takes its GPUs in between.
    """
    found: dict[str, dict[str, T]] = {}
    for name, tickets, running in stands:
        for ticket in sorted(tickets, key=key):
            if ticket.run not in running:
                found.setdefault(ticket.run, {}).setdefault(name, ticket)
    return found


def key(ticket: Ticket) -> tuple[bool, int, int, str]:
    """Return the place of a ticket in the one order of all."""
    return (not ticket.within, -ticket.priority, ticket.number, ticket.run)


def decide(
    stands: Sequence[Stand],
    run: str = "",
    candidates: Iterable[str] = (),
    sizes: Sequence[int] = (),
    within: bool = True,
) -> list[Begin | Wait]:
    """Return what each waiting run may do, in the order of their turns.

    ``candidates`` are all the hosts of ``run``, in sight or not; ``sizes`` what it asks for, if that is
    not what its ticket says. It is not ``within`` a quota if that covers less than it asks for.
    """
    hosts = {one.name: one.host for one in stands}
    return turns.decide(_tickets(stands, run, frozenset(candidates), sizes, within), hosts)


def _tickets(
    stands: Sequence[Stand],
    run: str,
    candidates: frozenset[str],
    own: Sequence[int],
    within: bool,
) -> Iterable[turns.Ticket]:
    there_by_run = waiting((one.name, one.tickets, one.running) for one in stands)
    for name, there in there_by_run.items():
        first = min(there.values(), key=key)
        if first.aside and name != run:
            continue  # it can begin nowhere, as its own hosts say: it holds nobody back
        sizes = tuple(own) if own and name == run else first.sizes
        if name != run and len(there) < first.hosts:
            sizes = sizes[: len(there)]  # what it may need of those that are in sight
        parts = {host: ticket.part for host, ticket in there.items() if ticket.part}
        only = {host: ticket.only for host, ticket in there.items() if ticket.only}
        yield turns.Ticket(
            name,
            first.number,
            sizes,
            candidates if name == run else frozenset(there),
            priority=first.priority,
            seconds=first.seconds,
            only=only,
            within=first.within and (within or name != run),
            parts=parts if len(parts) == len(there) else None,
        )
