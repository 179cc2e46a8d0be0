"""Compares how long this host has not heard from a launcher with the run's orphan timeout."""

from __future__ import annotations


class Heartbeat:
    """``orphan_timeout`` is how many seconds without a launcher a run survives; None is for ever.

    Times come from a monotonic clock.
    """

    def __init__(self, orphan_timeout: float | None, now: float) -> None:
        self._timeout = orphan_timeout
        self.heard = now  # when a launcher was heard last

    def renew(self, now: float) -> None:
        """Note that a launcher was heard."""
        self.heard = now

    @property
    def deadline(self) -> float:
        """The moment at which the run is orphaned, if no launcher is heard before."""
        return float("inf") if self._timeout is None else self.heard + self._timeout

    def expired(self, now: float) -> float | None:
        """Return the seconds of silence when the run is orphaned, once; else None."""
        if now < self.deadline:
            return None
        self._timeout = None
        return now - self.heard
