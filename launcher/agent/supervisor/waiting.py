"""A run that waits on this host for GPUs, and begins here without a launcher.

It holds the run's ticket, and all that the start needs. Which GPUs and ports the run gets is known only
then: the start request has a token in the place of each. See docs/decisions/0057-started-by-the-host.md.
"""

from __future__ import annotations

from ..host import free_ports, gpu_locks, gpu_users, gpus, lookout, socket_names, tickets
from . import stands, template, turns
from .projects import vouching

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..base.lean import Socket
    from ..base.messages import (
        GpuFacts,
        GpuUse,
        Holder,
        Message,
        StartRequest,
        TicketFacts,
        WaitRequest,
    )

#: What this host is called where no other is in sight.
HERE = "here"
#: Seconds until a run tries again that somebody was quicker than.
PAUSE = 0.5
#: Seconds for which it is known who works outside launcher: asking takes a while.
KNOWN = 10.0
#: MiB in use on a GPU without a process that count as use. Also in launcher.jobs.gpus.
IDLE_MEMORY = 1024


class Waiting:
    """The place of a run in the queue of this host, until it is closed. Raises OSError."""

    def __init__(self, run: str, request: WaitRequest, now: float) -> None:
        self.request = request
        self._run, self._short = run, socket_names.short(run)
        self._since: float = now - request["ticket"].get("waited", 0.0)
        seconds = request.get("seconds")
        self._until = float("inf") if seconds is None else now + seconds
        self._asked, self._has_room = request["ticket"], True
        self._ticket = tickets.enter(run, self._asked)
        self._lookout = lookout.Lookout()
        self._next = now
        self._strangers: tuple[float, list[int]] = (float("-inf"), [])  # as of when, and their GPUs

    @property
    def readable(self) -> list[Socket]:
        """The sockets that become readable when something has ended that the run waits for."""
        return self._lookout.readable

    @property
    def next_look(self) -> float:
        """The moment by which to look, if nothing ends before."""
        return min(self._next, self._until)

    def heard(self, ready: Iterable[object], now: float) -> None:
        """Note what has ended."""
        if self._lookout.ended(ready):
            self._next = now

    def is_over(self, now: float) -> bool:
        """Return whether the run has waited for as long as its user wants."""
        return now >= self._until

    def waited(self, now: float) -> float:
        """Return for how many seconds the run has waited."""
        return max(0.0, now - self._since)

    def move(self, ticket: Message, now: float) -> None:
        """Wait with another ticket. No moment is without one. Raises OSError."""
        self._show(ticket, self._has_room, now)
        self._next = now

    def turn(self, now: float) -> list[int]:
        """Return the GPUs that the run may take now; none if it has to wait."""
        if now < self._next:
            return []
        self._next = now + lookout.LOOK
        self._lookout.look(self._run)
        if not self._begins([]):
            return []
        if now > self._strangers[0] + KNOWN:
            self._strangers = (now, strangers(self._lookout.leased))
        return self._begins(self._strangers[1])

    def later(self, now: float, has_room: bool = True) -> None:
        """Note that somebody was quicker, or that the disk here has no room: the ticket says so."""
        self._next = now + PAUSE
        if has_room is not self._has_room:
            try:
                self._show(self._asked, has_room, now)
            except OSError:  # it is tried again the next time
                pass

    def start(self, indices: Sequence[int]) -> StartRequest:
        """Return the request to start the run on these GPUs, and on ports that are free now.

        Raises OSError when there are too few.
        """
        tokens, count = self.request["tokens"], len(self.request["tokens"]["ports"])
        held = free_ports.hold(self.request["ports"], count, count)
        ports = [one.getsockname()[1] for one in held]
        for one in held:
            one.close()
        names = [self.request["names"].get(str(index), str(index)) for index in indices]
        packed = self.request.get("packed") or ()
        return template.filled(self.request["start"], tokens, indices, names, ports, packed)

    def close(self) -> None:
        """Leave the queue."""
        self._ticket.close()
        self._lookout.close()

    def _show(self, ticket: Message, has_room: bool, now: float) -> None:
        shown = dict(ticket, waited=self.waited(now), no_room=not has_room)
        before, self._ticket = self._ticket, tickets.enter(self._run, shown)
        before.close()
        self._asked, self._has_room = ticket, has_room

    def _begins(self, outside: Sequence[int]) -> list[int]:
        shared = bool(self.request.get("ignore_foreign"))
        leased = self._lookout.leased
        there = vouching.vouched(self._lookout.tickets, self.request.get("rules"))
        stand = stand_of(self.request["gpus"], leased, there, outside, shared)
        for answer in stands.decide([stand], self._short, [HERE]):
            if answer.name == self._short and isinstance(answer, turns.Begin):
                return self.request["ticket"].get("only") or answer.gpus[HERE]
        return []


def stand_of(
    mine: Sequence[int],
    leased: Mapping[int, Holder],
    there: Iterable[TicketFacts],
    outside: Sequence[int] = (),
    shared: bool = False,
    host: str = HERE,
) -> stands.Stand:
    """Return how things stand on a host for a run that may use the GPUs ``mine``.

    Those on which somebody works ``outside`` launcher are in use; with ``shared`` they are given last.
    """
    held: dict[str, tuple[set[int], float | None]] = {}
    for index, holder in leased.items():
        used = {gpu for gpu in mine if gpu_locks.are_one(gpu, index)}
        held.setdefault(holder.get("run") or "", (set(), holder.get("left")))[0].update(used)
    uses = [turns.Use(run, used, left) for run, (used, left) in held.items() if used]
    uses += [] if shared else [turns.Use("", {gpu}) for gpu in outside]
    running = [socket_names.short(one["run"]) for one in leased.values() if one.get("run")]
    entered = [stands.Entered(one) for one in there]
    return stands.Stand(host, turns.Host(mine, uses, outside), entered, running)


def strangers(leased: Mapping[int, Holder]) -> list[int]:
    """Ask which GPUs are used outside launcher, and return them."""
    asked = gpu_users.ask()
    listed = gpus.listed()
    return used_outside(listed, gpu_users.users(listed, asked), leased)


def used_outside(
    listed: Iterable[GpuFacts], uses: Iterable[GpuUse], leased: Mapping[int, Holder]
) -> list[int]:
    """Return the GPUs that processes use which are of no run, or memory that no process holds, where no
    run has a lock. Also in launcher.jobs.gpus: a test holds them to the same answers."""
    users = [(use["gpu"], use["run"]) for use in uses]
    with_process = {gpu for gpu, _ in users}
    found = {gpu for gpu, run in users if run is None}
    found |= {
        gpu["index"]
        for gpu in listed
        if gpu["index"] not in with_process and gpu["memory_used"] > IDLE_MEMORY
    }
    return sorted(gpu for gpu in found if not any(gpu_locks.are_one(gpu, one) for one in leased))
