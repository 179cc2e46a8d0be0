"""What a run holds on this host, for all users to see: itself, its GPUs and its time limit."""

from __future__ import annotations

from ..base import protocol
from ..host import gpu_locks, socket_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..base.lean import Socket
    from ..base.messages import Message


class Claims:
    """The sockets by whose names other runs know what this one holds, until it is closed."""

    def __init__(self, run: str) -> None:
        self.gpus: list[gpu_locks.Lock] = []
        self._run = run
        self._registered = gpu_locks.register(run)
        self._limit: list[gpu_locks.Lock] = []

    def lock(self, wanted: list[int]) -> Message | None:
        """Lock GPUs, unless that was done before; return an error when one is not free."""
        try:
            self.gpus = self.gpus or gpu_locks.take(wanted, self._run)
        except gpu_locks.Busy as busy:
            return dict(protocol.error("gpu-busy", str(busy)), gpu=busy.index, holder=busy.holder)
        return None

    def limit(self, seconds: float) -> None:
        """Show that the run ends by itself in so many seconds."""
        self._limit = gpu_locks.limit(self._run, seconds)

    def unlock(self) -> None:
        """Unlock all GPUs; there is no time limit without them."""
        for lock in [*self.gpus, *self._limit]:
            lock.close()
        self.gpus, self._limit = [], []

    def drain(self, more: Iterable[Socket]) -> None:
        """Hang up on who has connected to one of these, or to ``more``, to see that it lives."""
        socket_names.drain([*self._registered, *self.gpus, *self._limit, *more])

    def close(self) -> None:
        """Hold nothing more."""
        self.unlock()
        for claim in self._registered:
            claim.close()


def port_taken(port: int) -> Message:
    """Return the answer to a request for a port that is in use."""
    return dict(protocol.error("port-taken", "port %d is in use" % port), port=port)
