"""A relay's part in a queue: it holds the ticket of its run, and tells what changes.

The kernel hangs up on it when a GPU lock or the ticket of another run is gone, so it needs no clock to
see that.
"""

from __future__ import annotations

import time

from ..host import gpu_locks, socket_names, tickets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.lean import Socket
    from ..base.messages import Message

#: Seconds without a request after which a ticket is let go: nobody could start its run.
FORSAKEN = 30.0
#: Seconds until the next look where the kernel does not tell of each end, and for what only begins.
LOOK = 2.0
#: The longest that a request waits for a change.
LONGEST = 15.0
#: How often to look again where something ends while we look.
TRIES = 3


class Turn:
    """The ticket of one run on this host, and who waits to hear of changes."""

    def __init__(self) -> None:
        self._ticket: Socket | None = None
        self._entered: Message | None = None
        self._run = ""
        self._watched: dict[str, Socket] = {}
        self._told: list[str] = []
        self._asks: tuple[int, float] | None = None  # which request waits, and until when
        self._heard, self._next_look = time.monotonic(), 0.0

    @property
    def readable(self) -> list[Socket]:
        """The sockets that the kernel makes readable when something has ended."""
        return list(self._watched.values())

    def patience(self) -> float:
        """Return the seconds until :meth:`answers` has something to do, if nothing ends before."""
        now = time.monotonic()
        moments = [self._heard + FORSAKEN] if self._ticket else []
        if self._asks:
            moments += [self._asks[1], self._next_look]
        return max(0.0, min(moments, default=now + LOOK) - now)

    def ask(self, request: Message) -> list[tuple[int, Message]]:
        """Hold the ticket of a request, or none. Return the answer to an earlier request that waits.

        The answer to this one comes from :meth:`answers`: with ``wait`` once something has changed
        since the last answer, or after so many seconds. Raises OSError.
        """
        earlier = [(self._asks[0], self._stand())] if self._asks else []
        self._heard, self._run = time.monotonic(), request["run"]
        self._hold(request.get("ticket"))
        wait = min(LONGEST, request.get("wait") or 0.0)
        self._asks = (request["id"], self._heard + wait)
        return earlier

    def answers(self, ready: Iterable[object]) -> list[tuple[int, Message]]:
        """Return what is to be answered now: the number of a request, and how things stand."""
        now = time.monotonic()
        ended = [name for name, one in self._watched.items() if one in ready]
        for name in ended:
            self._watched.pop(name).close()
        if self._asks is None:
            return []
        number, until = self._asks
        if now < until:
            if not ended and now < self._next_look:
                return []
            self._next_look = now + LOOK
            if sorted(tickets.names()) == self._told and not ended:
                return []
        stand = self._stand()
        self._asks, self._heard = None, now
        return [(number, stand)]

    def expire(self) -> None:
        """Let go of a ticket that nobody has renewed. Call it when no request is there to be read."""
        if self._ticket and time.monotonic() > self._heard + FORSAKEN:
            self._hold(None)

    def close(self) -> None:
        """Leave the queue."""
        for one in [self._ticket, *self._watched.values()]:
            if one:
                one.close()

    def _hold(self, wanted: Message | None) -> None:
        if wanted == self._entered and (self._ticket or not wanted):
            return
        before = self._ticket
        self._ticket = tickets.enter(self._run, wanted) if wanted else None
        self._entered = wanted
        if before:  # the new one is there: no moment was without a ticket
            before.close()

    def _stand(self) -> Message:
        """Return how things stand, and watch for the next end."""
        for _ in range(TRIES):
            names = tickets.names()
            stand = {"tickets": tickets.read(names, self._run), "leased": _leased()}
            if self._watch(tickets.to_watch(names, self._run)):
                break
        self._told = sorted(names)
        return stand

    def _watch(self, names: list[str]) -> bool:
        """Watch these sockets and no others; return False if one of them has ended meanwhile."""
        for name in [name for name in self._watched if name not in names]:
            self._watched.pop(name).close()
        ended = False
        for name in [name for name in names if name not in self._watched]:
            try:
                found = socket_names.connected(name)
            except OSError:  # its queue is full: it is looked at every LOOK seconds
                continue
            if found is None:
                ended = True
            else:
                self._watched[name] = found
        return not ended


def _leased() -> Message:
    return {str(index): holder for index, holder in gpu_locks.held().items()}
