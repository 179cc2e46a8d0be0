"""The stages of a run, from its beginning to its end."""

from __future__ import annotations

from ...spec.frozen import frozen
from .event import Event


@frozen
class StageStarted(Event):
    """The run entered ``stage``: connect, sync, wait, setup, start, run, restart, collect or store."""

    stage: str


@frozen
class NotificationFailed(Event):
    """News of the run could not be sent; ``to`` is how, without an address or a command."""

    to: str
    problem: str


@frozen
class AllStarted(Event):
    """Every host has started its processes; from here on the run needs no launcher."""

    attempt: int


@frozen
class RunRestarted(Event):
    """Everything was stopped, and all ranks start again as this ``attempt``; ``reason`` is that of
    the failure or of the loss of a host, ``port-taken`` or ``gpu-busy``."""

    attempt: int
    reason: str


@frozen
class RunEnded(Event):
    """The run is over."""

    status: str
    reason: str
    reason_host: str | None = None
