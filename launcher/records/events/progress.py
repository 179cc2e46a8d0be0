"""How far something is: events that are shown and not recorded."""

from __future__ import annotations

from typing import Self

from ...spec.frozen import frozen
from .event import Event


@frozen
class Progressed(Event):
    """How far something is. Shown on screen, never stored."""


@frozen
class CopyProgressed(Progressed):
    """A copy of ``bytes`` bytes is under way; ``done`` is how many of them are, where that is known."""

    host: str
    percent: int
    bytes: int = 0
    done: int | None = None

    @classmethod
    def so_far(cls, now: float, host: str, done: int, size: int) -> Self:
        """Return how far a host is now."""
        done = min(done, size)
        return cls(now, host, done * 100 // size if size else 100, size, done)


@frozen
class SyncProgressed(CopyProgressed):
    """Code, data or an image is on its way to a host."""


@frozen
class OutputsProgressed(CopyProgressed):
    """Outputs are on their way from a host."""


@frozen
class StoreProgressed(CopyProgressed):
    """Outputs are on their way from a host to the job's store; or from there to this machine, and
    ``host`` is ``store``."""


@frozen
class CheckProgressed(CopyProgressed):
    """A host is reading a data set again; nothing is copied."""


@frozen
class SourceRead(Progressed):
    """The source of a data set is being read here, ``bytes`` of it so far; ``total`` is None where only
    its end tells how much it is."""

    name: str
    bytes: int
    total: int | None = None
    is_over: bool = False
