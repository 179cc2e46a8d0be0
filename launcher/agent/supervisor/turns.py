"""Decides whose turn it is: which waiting runs may begin now, where, and what each other one waits for.

It is pure, so that every host that sees the same comes to the same decision. It has no clock, either:
all times are seconds from now, because the clocks of hosts differ. Nothing depends on it for safety:
a wrong decision costs time, while the GPU locks keep two runs off one GPU. See
docs/decisions/0051-turns.md.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Waiting runs that are planned for; those behind wait, whatever they ask for.
MOST_PLANNED = 32

#: Seconds for which an elastic run that could begin on some of its hosts looks out for more: a run that
#: ends on several gives their GPUs back one after the other.
SETTLE = 2.0

#: Why a run waits: fewer of its hosts are in sight than it needs.
HOSTS_MISSING = "hosts-missing"
#: It asks for more than its hosts have, even when they are idle.
TOO_LARGE = "too-large"
#: Its GPUs are in use.
BUSY = "busy"
#: Its GPUs are free now, and held back for a run whose turn is earlier.
BEHIND = "behind"

FOREVER = float("inf")


class Value:
    """Compares and prints by its fields."""

    __slots__: tuple[str, ...] = ()

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    def __repr__(self) -> str:
        fields = ", ".join("%s=%r" % (name, getattr(self, name)) for name in self.__slots__)
        return "%s(%s)" % (type(self).__name__, fields)

    __hash__ = None  # type: ignore[assignment] # some fields are mappings


class Ticket(Value):
    """A waiting run: ``shares`` are the GPUs of each of its nodes, ``hosts`` those it may use.

    ``number`` is its Lamport time, ``seconds`` the longest that it runs (None: unlimited). Who is
    ``within`` the quota of a project goes first, then a higher ``priority``, then the lower number, then
    the name. ``only`` are the GPUs of each host
    that it wants, where no others would do; ``parts`` how many of each host, where it cannot choose.
    """

    __slots__ = (
        *("hosts", "name", "number", "only", "parts", "priority", "seconds", "shares"),
        "within",
    )

    def __init__(  # noqa: PLR0913 - what a ticket says
        self,
        name: str,
        number: int,
        shares: Iterable[int],
        hosts: Iterable[str],
        *,
        priority: int = 0,
        seconds: float | None = None,
        only: Mapping[str, Iterable[int]] | None = None,
        within: bool = False,
        parts: Mapping[str, int] | None = None,
    ) -> None:
        self.name, self.number, self.priority, self.seconds = name, number, priority, seconds
        self.shares, self.hosts = tuple(shares), tuple(sorted(set(hosts)))
        self.only = {host: frozenset(gpus) for host, gpus in (only or {}).items()}
        self.within = within
        self.parts = dict(parts or {name: len(gpus) for name, gpus in self.only.items()})

    @property
    def key(self) -> tuple[bool, int, int, str]:
        """Its place in the one order of all tickets."""
        return (not self.within, -self.priority, self.number, self.name)


class Use(Value):
    """GPUs of a host in use by a run; ``name`` is empty if by something else.

    ``seconds`` says how long they stay so at most (None: nobody knows).
    """

    __slots__ = ("gpus", "name", "seconds")

    def __init__(self, name: str, gpus: Iterable[int], seconds: float | None = None) -> None:
        self.name, self.gpus, self.seconds = name, frozenset(gpus), seconds


class Host(Value):
    """A host in sight: the indices of its GPUs, their uses, and those that are given ``last``."""

    __slots__ = ("gpus", "last", "uses")

    def __init__(
        self, gpus: Iterable[int], uses: Iterable[Use] = (), last: Iterable[int] = ()
    ) -> None:
        self.gpus, self.uses, self.last = frozenset(gpus), tuple(uses), frozenset(last)

    @property
    def free(self) -> list[int]:
        """Indices that nothing uses, in the order in which they are given."""
        free = self.gpus.difference(*(use.gpus for use in self.uses))
        return sorted(free, key=lambda index: (index in self.last, index))


class Begin(Value):
    """The run may claim these GPUs of each host now: all of them or none."""

    __slots__ = ("gpus", "name")

    def __init__(self, name: str, gpus: Mapping[str, list[int]]) -> None:
        self.name, self.gpus = name, dict(gpus)


class Wait(Value):
    """The run waits as number ``place``.

    ``runs`` are those it waits for: who uses its GPUs (BUSY; an empty name is none of ours), or whose
    turn is earlier (BEHIND). ``hosts`` are those missing (HOSTS_MISSING). ``seconds`` is when it begins
    at the latest, if no run before it is added (None: nobody knows).
    """

    __slots__ = ("hosts", "name", "place", "runs", "seconds", "why")

    def __init__(
        self,
        name: str,
        place: int,
        why: str,
        *,
        runs: Iterable[str] = (),
        hosts: Iterable[str] = (),
        seconds: float | None = None,
    ) -> None:
        self.name, self.place, self.why, self.seconds = name, place, why, seconds
        self.runs, self.hosts = tuple(sorted(set(runs))), tuple(sorted(set(hosts)))


class Span:
    """GPUs of a host that are not to be had from ``start`` to ``end``, because of the run ``name``.

    ``waits`` says that it does not run yet.
    """

    __slots__ = ("count", "end", "name", "start", "waits")

    def __init__(self, name: str, count: int, start: float, end: float, waits: bool) -> None:
        self.name, self.count, self.start, self.end, self.waits = name, count, start, end, waits


class Plan:
    """What will be in use on each host, and until when, as far as anybody knows."""

    def __init__(self, hosts: Mapping[str, Host]) -> None:
        self.size = {name: len(host.gpus) for name, host in hosts.items()}
        self.spans = {name: list(_in_use(host)) for name, host in hosts.items()}
        self._free = {name: host.free for name, host in hosts.items()}

    def earliest(
        self, ticket: Ticket, *, known: bool = True
    ) -> tuple[float, dict[str, int]] | None:
        """Return when ``ticket`` can have all it asks for, and how many GPUs where.

        Without ``known``, what has no known end counts as ending now.
        """
        ends = {span.end for name in ticket.hosts for span in self.spans.get(name, ())}
        for start in sorted({0.0} | ends - {FOREVER}):
            places = self.places(ticket, start, known=known)
            if places is not None:
                return start, places
        return None

    def places(self, ticket: Ticket, start: float, *, known: bool = True) -> dict[str, int] | None:
        """Return the hosts where ``ticket`` can run from ``start`` to its end, with their shares."""
        end = FOREVER if ticket.seconds is None else start + ticket.seconds
        if ticket.parts:
            return self._own_places(ticket, start, end, known)
        free = []
        for name in ticket.hosts:
            if name in self.spans:
                spans = [one for one in self.spans[name] if known or one.end < FOREVER]
                free.append((self.size[name], name, self.size[name] - _most(spans, start, end)))
        return _places(ticket.shares, sorted(free))

    def _own_places(
        self, ticket: Ticket, start: float, end: float, known: bool
    ) -> dict[str, int] | None:
        """Return its very hosts and shares, if there is room for them."""
        for name, count in ticket.parts.items():
            spans = [one for one in self.spans.get(name, ()) if known or one.end < FOREVER]
            if self.size.get(name, 0) - _most(spans, start, end) < count:
                return None
        return dict(ticket.parts)

    def reserve(self, ticket: Ticket, places: Mapping[str, int], start: float) -> None:
        """Keep these GPUs for ``ticket`` from ``start`` on."""
        end = FOREVER if ticket.seconds is None else start + ticket.seconds
        for name, count in places.items():
            self.spans[name].append(Span(ticket.name, count, start, end, True))

    def hold_back(self, ticket: Ticket) -> None:
        """Keep what ``ticket`` may need on each of its hosts, from when it could begin at the earliest.

        When it begins depends on runs without an end, and any of them may end next.
        """
        found = self.earliest(ticket, known=False)
        largest = max(ticket.shares)
        for name in ticket.hosts:
            if found and name in self.spans:
                count = ticket.parts.get(name, largest)
                self.spans[name].append(Span(ticket.name, count, found[0], FOREVER, True))

    def take(self, places: Mapping[str, int], ticket: Ticket) -> dict[str, list[int]]:
        """Return free GPUs for a run that begins, and give them to no other."""
        taken = {}
        for name, count in places.items():
            wanted = [gpu for gpu in self._free[name] if gpu in ticket.only.get(name, (gpu,))]
            taken[name] = wanted[:count]
            self._free[name] = [gpu for gpu in self._free[name] if gpu not in taken[name]]
        return taken

    def has_all(self, ticket: Ticket) -> bool:
        """Return whether the very GPUs that ``ticket`` wants are free now."""
        return all(gpus <= set(self._free.get(name, ())) for name, gpus in ticket.only.items())

    def keep(self, ticket: Ticket) -> None:
        """Give those of its very GPUs that are free to no other: the rest may be free next."""
        for name, gpus in ticket.only.items():
            kept = gpus & set(self._free.get(name, ()))
            if kept:
                self._free[name] = [gpu for gpu in self._free[name] if gpu not in kept]
                self.spans[name].append(Span(ticket.name, len(kept), 0.0, FOREVER, True))

    def before(self, ticket: Ticket, *, waiting: bool) -> set[str]:
        """Return the runs that keep GPUs of its hosts from it: those that wait, or those that run."""
        end = FOREVER if ticket.seconds is None else ticket.seconds
        return {
            span.name
            for name in ticket.hosts
            for span in self.spans.get(name, ())
            if span.waits is waiting and span.start < end
        }


def decide(tickets: Iterable[Ticket], hosts: Mapping[str, Host]) -> list[Begin | Wait]:
    """Return what each waiting run may do now, in the order of their turns.

    A run that does not begin keeps a later one from what it needs, unless that one ends before it
    could begin.
    """
    plan, running = Plan(hosts), Plan(hosts)
    answers: list[Begin | Wait] = []
    place = planned = 0
    for ticket in sorted(tickets, key=lambda ticket: ticket.key):
        found = None
        why = _hindrance(ticket, plan, hosts)
        if why is None and planned < MOST_PLANNED:
            found = plan.earliest(ticket)
            if found and found[0] == 0.0 and plan.has_all(ticket):
                answers.append(Begin(ticket.name, plan.take(found[1], ticket)))
                plan.reserve(ticket, found[1], 0.0)
                running.reserve(ticket, found[1], 0.0)
                continue
        place += 1
        answers.append(_wait(ticket, place, why, found, plan, running, hosts))
        if why is not None or planned == MOST_PLANNED:
            continue
        planned += 1
        if ticket.only:
            plan.keep(ticket)
        elif found:
            plan.reserve(ticket, found[1], found[0])
        else:
            plan.hold_back(ticket)
    return answers


def _hindrance(ticket: Ticket, plan: Plan, hosts: Mapping[str, Host]) -> str | None:
    """Return why no end of other runs would let it begin. Such a run holds nobody back."""
    seen = [(plan.size[name], name, plan.size[name]) for name in ticket.hosts if name in hosts]
    if ticket.parts:
        if len(seen) < len(ticket.hosts):
            return HOSTS_MISSING
        there = all(gpus <= hosts[name].gpus for name, gpus in ticket.only.items())
        fits = all(count <= plan.size[name] for name, count in ticket.parts.items())
        return None if there and fits else TOO_LARGE
    if ticket.shares and _places(ticket.shares, sorted(seen)) is not None:
        return None
    return HOSTS_MISSING if len(seen) < len(ticket.hosts) else TOO_LARGE


def _wait(
    ticket: Ticket,
    place: int,
    why: str | None,
    found: tuple[float, dict[str, int]] | None,
    plan: Plan,
    running: Plan,
    hosts: Mapping[str, Host],
) -> Wait:
    """Say what it waits for."""
    if why == TOO_LARGE:
        return Wait(ticket.name, place, TOO_LARGE)
    if why == HOSTS_MISSING:
        missing = [name for name in ticket.hosts if name not in plan.size]
        return Wait(ticket.name, place, HOSTS_MISSING, hosts=missing)
    seconds = found[0] if found and not ticket.only else None
    if running.places(ticket, 0.0) is not None and running.has_all(ticket):
        runs = plan.before(ticket, waiting=True)
        return Wait(ticket.name, place, BEHIND, runs=runs, seconds=seconds)
    using = _using(ticket, hosts) if ticket.only else running.before(ticket, waiting=False)
    runs = using | running.before(ticket, waiting=True)
    return Wait(ticket.name, place, BUSY, runs=runs, seconds=seconds)


def _using(ticket: Ticket, hosts: Mapping[str, Host]) -> set[str]:
    """Return who uses the very GPUs that it wants."""
    return {
        use.name
        for name, gpus in ticket.only.items()
        for use in hosts[name].uses
        if use.gpus & gpus
    }


def _in_use(host: Host) -> Iterable[Span]:
    """Return what uses the host now. A use that should have ended may end at any moment."""
    for use in host.uses:
        over = use.seconds is None or not use.seconds > 0
        count = len(use.gpus & host.gpus)
        if count:
            yield Span(use.name, count, 0.0, FOREVER if over else use.seconds or 0.0, False)


def _most(spans: Iterable[Span], start: float, end: float) -> int:
    """Return how many GPUs are in use at most between ``start`` and ``end``."""
    met = [span for span in spans if span.start < end and span.end > start]
    moments = {start} | {span.start for span in met if span.start > start}
    return max(
        sum(span.count for span in met if span.start <= moment < span.end) for moment in moments
    )


def _places(shares: Iterable[int], hosts: list[tuple[int, str, int]]) -> dict[str, int] | None:
    """Return a host of its own for each share; None if there are too few.

    ``hosts`` are (size, name, free), in order of preference. The preference must not depend on what
    is free: a run that begins would change which hosts an earlier one is planned for, and delay a
    third. The largest share chooses first: what suffices for it does so for the others, too.
    """
    left, places = list(hosts), {}
    for share in sorted(shares, reverse=True):
        fitting = next((host for host in left if host[2] >= share), None)
        if fitting is None:
            return None
        left.remove(fitting)
        places[fitting[1]] = share
    return places
