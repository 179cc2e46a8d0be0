"""Hosts of a run, and the connections to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from ...spec.frozen import frozen
from ..reasons import PassedOver
from .event import Event


@frozen
class HostConnected(Event):
    """A host answered and was measured; ``user`` is the account there."""

    host: str
    seconds: float
    python_version: str
    clock_offset: float
    strays: int = 0
    user: str = ""


@frozen
class OldRunEnded(Event):
    """Leftovers of an earlier run, which its launcher could not reach, were stopped on a host."""

    host: str
    run: str


@frozen
class HostFailed(Event):
    """A host cannot take part; ``code`` is that of the error."""

    host: str
    code: str
    message: str
    hint: str = ""


@frozen
class HostsMet(Event):
    """Every host has connected to the master."""

    master_addr: str
    master_port: int
    interfaces: Mapping[str, str] = field(default_factory=dict)


@frozen
class PortReplaced(Event):
    """Another program took a port before ours could listen; new ports will be chosen."""

    host: str
    port: int


@frozen
class HostsSilent(Event):
    """Hosts that had not answered after so many ``seconds``: the run goes on without them."""

    hosts: tuple[str, ...]
    seconds: float


@frozen
class PackagesDiffered(Event):
    """Hosts do not have the same: by package, the hosts that have each version, "" for none. ``more``
    packages differ that are not named."""

    packages: Mapping[str, Mapping[str, tuple[str, ...]]]
    more: int = 0


@frozen
class NobodyMet(Event):
    """No rank of the host of rank 0 was ever connected to another: each rank worked alone."""

    host: str
    attempt: int = 0


@frozen
class GpusPassedOver(Event):
    """GPUs of a host that the run did not take; ``by`` is whose they are, or what leaves them out.

    Of a run that takes what is free, ``taken`` is how many GPUs it has of ``total`` on the host.
    """

    host: str
    gpus: tuple[int, ...]
    reason: PassedOver
    by: str
    taken: int = 0
    total: int = 0


@frozen
class HostEnded(Event):
    """Nothing of the run is alive on a host, by its supervisor's count. ``removed`` are the segments
    of shared memory that the run had left in /dev/shm."""

    host: str
    left: int
    scanned: int
    unreadable: int
    attempt: int | None = None
    removed: tuple[str, ...] = ()


@frozen
class RecordPassedOver(Event):
    """A record in a host's journal, or a line of ours if ``host`` is "", could not be read and was
    ignored, for this ``problem``."""

    host: str
    problem: str


@frozen
class HostFinished(Event):
    """A host's supervisor has exited, and everything that it left was fetched."""

    host: str


@frozen
class ConnectionDropped(Event):
    """The connection to a host was lost. Its processes continue."""

    host: str
    message: str


@frozen
class ConnectionResumed(Event):
    """The connection is back after ``seconds``, and the logs continue where they stopped."""

    host: str
    seconds: float


@frozen
class LogsWaiting(Event):
    """This machine has no room for a host's logs: they wait there, and the run continues."""

    host: str
    message: str


@frozen
class LogsResumed(Event):
    """There is room for the host's logs again, and none are missing."""

    host: str


@frozen
class NodeLost(Event):
    """A host was unreachable for too long, or its supervisor died: the run cannot continue as it
    is."""

    host: str
    reason: str


@frozen
class NodeReplaced(Event):
    """The host ``by`` replaces a lost one; ``reason`` is that of the loss."""

    host: str
    by: str
    node_rank: int
    reason: str


@frozen
class NodesReduced(Event):
    """The run continues without a lost host, with these new sizes: no spare was left."""

    host: str
    num_nodes: int
    world_size: int
    reason: str


@frozen
class OrphanTimeoutExpired(Event):
    """A host stopped the run on its own: no launcher had contacted it for ``silent`` seconds."""

    host: str
    silent: float


@frozen
class HostSwept(Event):
    """Every process in a host's /proc was checked after the end of the run."""

    host: str
    left: tuple[Mapping[str, Any], ...]
    killed: int
    scanned: int
    unreadable: int
