"""A relay's part in a queue: it holds the ticket of its run, and tells what changes."""

from __future__ import annotations

import time

from ..host import lookout, projects, socket_names, tickets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.lean import Socket
    from ..base.messages import Message

#: Seconds without a request after which a ticket is let go: nobody could start its run.
FORSAKEN = 30.0
#: The longest that a request waits for a change.
LONGEST = 15.0


class Turn:
    """The ticket of one run on this host, and who waits to hear of changes."""

    def __init__(self) -> None:
        self._ticket: Socket | None = None
        self._beside: list[
            Socket
        ] = []  # what the run says of its project, and whom it asks for GPUs
        self._entered: Message | None = None
        self._run = ""
        self._lookout = lookout.Lookout()
        self._asks: tuple[int, float] | None = None  # which request waits, and until when
        self._heard, self._next_look = time.monotonic(), 0.0

    @property
    def readable(self) -> list[Socket]:
        """The sockets that the kernel makes readable when something has ended."""
        return self._lookout.readable

    def patience(self) -> float:
        """Return the seconds until :meth:`answers` has something to do, if nothing ends before."""
        now = time.monotonic()
        moments = [self._heard + FORSAKEN] if self._ticket else []
        if self._asks:
            moments += [self._asks[1], self._next_look]
        return max(0.0, min(moments, default=now + lookout.LOOK) - now)

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
        ended = self._lookout.ended(ready)
        if self._asks is None:
            return []
        number, until = self._asks
        if now < until:
            if not ended and now < self._next_look:
                return []
            self._next_look = now + lookout.LOOK
            if not ended and not self._lookout.has_changed():
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
        if self._ticket:
            self._ticket.close()
        for one in self._beside:
            one.close()
        self._lookout.close()

    def _hold(self, wanted: Message | None) -> None:
        if wanted == self._entered and (self._ticket or not wanted):
            return
        before, beside = self._ticket, self._beside
        self._ticket = tickets.enter(self._run, wanted) if wanted else None
        self._entered = wanted
        if before:  # the new one is there: no moment was without a ticket
            before.close()
        for one in beside:
            one.close()
        self._beside = projects.beside(self._run, wanted) if wanted else []

    def _stand(self) -> Message:
        self._lookout.look(self._run)
        leased = {str(index): holder for index, holder in self._lookout.leased.items()}
        try:
            members = projects.members(socket_names.seen())
        except OSError:  # they are only shown; what counts is read by project_round.py
            members = []
        return {"tickets": self._lookout.tickets, "leased": leased, "members": members}
