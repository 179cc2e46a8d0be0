"""What the supervisor does for a run that waits together with other hosts: see gathered.py."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ...base.messages import GatherRequest, Given, Message, StartRequest, Way
    from . import stake

    class Hands(stake.Hands, Protocol):
        """The supervisor."""

        def lock(self, gpus: list[int]) -> bool:
            """Lock these GPUs; return False when one is not free."""

        def has_room(self) -> bool:
            """Return whether it could be written down that the run begins."""

        def unlock(self) -> None:
            """Unlock all GPUs."""

        def met(self, request: GatherRequest, leads: str) -> None:
            """Write down that the hosts start the run by themselves from now on."""

        def commit(
            self,
            request: StartRequest | None,
            given: Given,
            way: Way,
            seconds: float,
            later: Message | None,
        ) -> bool:
            """Prepare the start, if there is one here, and write down that the run has begun this way;
            return False if it cannot. ``later`` says how the hosts find each other after it."""

        def witness(self, later: Message | None) -> None:
            """Go on as one of those that only decide, once the run is over here."""

        def begin(self, request: StartRequest) -> None:
            """Start the processes."""

        def give_way(self) -> None:
            """Give the run's GPUs back, as others do who could not tell."""

        def end(self, why: str) -> None:
            """End the run here."""
