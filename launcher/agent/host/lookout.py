"""Watches the queue of this host: who holds GPUs, who waits for them, and what has ended.

The kernel hangs up when a GPU lock or the ticket of another run is gone, so nobody needs a clock to
see that.
"""

from __future__ import annotations

from . import gpu_locks, socket_names, tickets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.lean import Socket
    from ..base.messages import Holder, TicketFacts

#: Seconds until the next look where the kernel does not tell of each end, and for what only begins.
LOOK = 2.0
#: How often to look again where something ends while we look.
TRIES = 3


class Lookout:
    """What a run sees of the queue. ``tickets`` and ``leased`` are as of the last :meth:`look`."""

    def __init__(self) -> None:
        self.tickets: list[TicketFacts] = []
        self.leased: dict[int, Holder] = {}
        self._watched: dict[str, Socket] = {}
        self._told: list[str] = []

    @property
    def readable(self) -> list[Socket]:
        """The sockets that the kernel makes readable when something has ended."""
        return list(self._watched.values())

    def ended(self, ready: Iterable[object]) -> bool:
        """Forget what has ended of these; return whether something has."""
        ended = [name for name, one in self._watched.items() if one in ready]
        for name in ended:
            self._watched.pop(name).close()
        return bool(ended)

    def has_changed(self) -> bool:
        """Return whether something has begun, or ended, since the last look."""
        return sorted(tickets.names()) != self._told

    def look(self, run: str) -> None:
        """See how things stand for a run, and watch for the next end."""
        for _ in range(TRIES):
            names = tickets.names()
            self.tickets, self.leased = tickets.read(names, run), gpu_locks.held()
            if self._watch(tickets.to_watch(names, run)):
                break
        self._told = sorted(names)

    def close(self) -> None:
        """Watch nothing more."""
        for one in self._watched.values():
            one.close()
        self._watched = {}

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
