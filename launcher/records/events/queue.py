"""Waiting for GPUs, and giving them back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field

from ...spec.frozen import frozen
from ..reasons import WaitReason
from .event import Event


@frozen
class RunWaits(Event):
    """The run waits for GPUs, as number ``place`` of ``waiting`` runs.

    ``runs`` are those that it waits for, and ``users`` whose they are: an empty name is somebody outside
    launcher, and ``outside`` says who and what. ``hosts`` are those out of reach. It begins by
    ``latest``, if no run comes before it; None: nobody knows. ``project`` is whose rule holds it back:
    it has ``used`` GPUs, and may have ``most`` by that rule.
    """

    place: int
    waiting: int
    why: WaitReason
    runs: tuple[str, ...] = ()
    users: Mapping[str, str] = field(default_factory=dict)
    hosts: tuple[str, ...] = ()
    latest: float | None = None
    outside: str = ""
    project: str = ""
    used: int = 0
    most: int = 0


@frozen
class TurnCame(Event):
    """The run may begin, after it has waited for so many ``seconds``."""

    seconds: float


@frozen
class WaitsOnHost(Event):
    """A host has all that the run needs, and starts it when its turn has come: it needs no launcher."""

    host: str


@frozen
class BegunThere(Event):
    """A host starts the run by itself, after a wait of so many ``seconds``, on these ``gpus`` and with
    these ``ports``, the first of which is the master's.

    Of several ``hosts`` that start it together, each says which these are, and what their meeting point
    is. The one that has chosen them says so, too, without GPUs if it is none of them.
    """

    host: str
    attempt: int
    seconds: float
    gpus: tuple[int, ...]
    ports: tuple[int, ...]
    hosts: tuple[str, ...] = ()
    master_addr: str = ""
    interfaces: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)


@frozen
class TakenBack(Event):
    """A host gives GPUs that the run's project had borrowed back to a ``run`` of another ``user``, which
    is within the quota of its ``project``."""

    host: str
    attempt: int
    run: str
    user: str
    project: str


@frozen
class WaitsAgain(Event):
    """A host has given GPUs back, and waits for others by itself, to start the run again on these
    ``hosts`` as this ``attempt``; the first one leads."""

    host: str
    attempt: int
    hosts: tuple[str, ...]


@frozen
class LeftToHosts(Event):
    """The run is left to several hosts, of which the first one leads: from now on they may start it, on
    as many of them as are ``wanted`` (0: on all); an elastic run on up to ``most``. If it ``succeeds``,
    another one may lead once that is gone."""

    hosts: tuple[str, ...]
    wanted: int = 0
    most: int = 0
    succeeds: bool = False


@frozen
class WaitsOnHosts(Event):
    """The leading ``host`` is in touch with enough of the ``hosts`` of the run, as many of which as are
    ``wanted`` (0: all) start it together when its turn has come: it needs no launcher. Up to ``most``
    start an elastic run. If it ``succeeds``, another host may lead later. Hosts of an earlier version
    say here what their meeting point is."""

    host: str
    hosts: tuple[str, ...]
    master_addr: str = ""
    interfaces: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    wanted: int = 0
    most: int = 0
    succeeds: bool = False


@frozen
class HostsLetGo(Event):
    """The run has begun without these ``hosts``, which waited for it, too: nothing of it is left there,
    but on those that are ``silent``."""

    hosts: tuple[str, ...]
    silent: tuple[str, ...] = ()


@frozen
class GpuTaken(Event):
    """Somebody took a GPU of the plan before the run could; others are looked for."""

    host: str
    message: str
