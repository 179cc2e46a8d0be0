"""What a host sees of its own queue, for a run that waits together with others."""

from __future__ import annotations

from ...host import lookout
from .. import waiting
from ..projects import vouching
from . import stands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...base.lean import Socket
    from ...base.messages import GatherRequest, Message


class Sight:
    """Looks who holds and wants GPUs here, until it is closed."""

    def __init__(self, run: str, request: GatherRequest) -> None:
        self._run, self._rules = run, request.get("rules")
        self._lookout = lookout.Lookout()
        self._outside: tuple[float, list[int]] = (float("-inf"), [])  # as of when, and their GPUs
        self._told: Message | None = None  # as the leader knows it

    @property
    def readable(self) -> list[Socket]:
        """The sockets that become readable when something has ended."""
        return self._lookout.readable

    def ended(self, ready: Iterable[object]) -> bool:
        """Return whether something has ended."""
        return self._lookout.ended(ready)

    def forget(self) -> None:
        """Note that the leader may know nothing."""
        self._told = None

    def look(self, now: float) -> tuple[Message, bool]:
        """Return how things stand here, and whether the leader does not know that."""
        self._lookout.look(self._run)
        if self._outside[1]:
            self.ask_for_strangers(now)
        believed = vouching.vouched(self._lookout.tickets, self._rules)
        stand = stands.told(self._run, believed, self._lookout.leased, self._outside[1])
        known, self._told = self._told, stands.without_times(stand)
        return stand, known != self._told

    def ask_for_strangers(self, now: float) -> None:
        """Learn who works outside launcher, unless that was asked a moment ago."""
        if now > self._outside[0] + waiting.KNOWN:
            self._lookout.look(self._run)
            self._outside = (now, waiting.strangers(self._lookout.leased))

    def close(self) -> None:
        """Look no more."""
        self._lookout.close()
