"""What a host says of its ports, and of how it reaches other hosts."""

from __future__ import annotations

from collections.abc import Mapping

from ...spec.addresses import is_address
from ...spec.frozen import frozen
from .reading import require, require_address, require_interface, require_port


@frozen
class Listening:
    """The ports on which a host listens for the others of a run."""

    port: int
    more: tuple[int, ...] = ()
    news: int | None = None

    def __post_init__(self) -> None:
        for port in (self.port, *self.more, self.news):
            require_port(port, "port")


@frozen
class Reached:
    """The result of one attempt to reach the rendezvous; addresses only where it was reached."""

    ok: bool
    ip: str = ""
    local: str = ""
    interface: str | None = None
    error: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        require_interface(self.interface, "interface")
        if self.ok or self.ip:
            require_address(self.ip, "ip")
        if self.ok:
            require_address(self.local, "local")


@frozen
class EchoPorts:
    """Where a host answers the network tests of the others."""

    ports: tuple[int, ...]
    high: int
    udp: int

    def __post_init__(self) -> None:
        for port in (*self.ports, self.high, self.udp):
            require_port(port, "ports")


@frozen
class Resolved:
    """What the names of other hosts mean on a host; None where they mean nothing."""

    names: Mapping[str, tuple[str, ...] | None]


@frozen
class Route:
    """How a host has reached another one; see :class:`launcher.fleet.findings.survey.PairTest`."""

    address: str | None
    complete: tuple[str, ...]
    interface: str | None
    closed: Mapping[int, str]
    mtu: int | None = None
    mtu_expected: int | None = None
    round_trip: float | None = None
    large: bool | None = None

    def __post_init__(self) -> None:
        require_interface(self.interface, "interface")
        for address in (self.address, *self.complete):
            require(address is None or is_address(address), "address", "not an address")


@frozen
class Explored:
    """The routes that were asked for, in their order."""

    ways: tuple[Route, ...]


@frozen
class Measured:
    """Bytes a second to another host; None where nothing arrived."""

    bandwidth: float | None
