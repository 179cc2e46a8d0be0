"""What one host has claimed for a run that waits together with others: its part of a way, and ports."""

from __future__ import annotations

from ...host import free_ports
from .. import template
from . import ways
from .returning import leader_of, may_return

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...base.lean import Socket
    from ...base.messages import GatherRequest, Given, StartRequest


class Claimed:
    """Ports that are held, and what this host was given; nothing at first."""

    def __init__(self, request: GatherRequest, here: str) -> None:
        self.given: Given | None = None
        self._request, self._here = request, here
        self._ways, self._starts = ways.ways_of(request)
        self._ports: list[Socket] = []
        self._later: list[Socket] = []  # where this host listens, if it is to lead later

    def fits(self, way: int, gpus: Sequence[int]) -> bool:
        """Return whether this host may be asked for these GPUs."""
        tokens = ways.tokens_of(self._ways, way).get(self._here)
        return tokens is not None and len(gpus) == len(tokens["gpus"])

    def take(self, way: int, gpus: Sequence[int]) -> None:
        """Hold the ports of this host's part of a way, which has these GPUs. Raises OSError."""
        count = len(ways.tokens_of(self._ways, way)[self._here]["ports"])
        span = self._request["ports"]
        self._ports = free_ports.hold(span, count, count) if count else []
        if self._leads_later(way):
            self._later = free_ports.hold(span, 1, 1)
        names = [self._request["names"].get(str(index), str(index)) for index in gpus]
        ports = [one.getsockname()[1] for one in self._ports]
        self.given = {"gpus": list(gpus), "names": names, "ports": ports}

    @property
    def later_port(self) -> int:
        """Where this host listens, if it is to lead once GPUs were given back; 0: nowhere."""
        return self._later[0].getsockname()[1] if self._later else 0

    def start_of(self, way: int, given: Mapping[str, Given]) -> StartRequest | None:
        """Return what to start here, with what each host was given; None if this host has nothing."""
        packed = self._request.get("packed") or ()
        start = ways.start_of(self._ways, self._starts, way, self._here, packed)
        if start is None or self.given is None:
            return None
        return template.filled_together(start, self._ways[way]["tokens"], given, packed)

    def let_ports_go(self) -> None:
        """Hold no ports for processes."""
        for one in self._ports:
            one.close()
        self._ports = []

    def let_go(self) -> None:
        """Hold nothing any more."""
        self.let_ports_go()
        self.given = None
        self.close()

    def close(self) -> None:
        """Listen nowhere any more."""
        for one in self._later:
            one.close()
        self._later = []

    def _leads_later(self, way: int) -> bool:
        leads = self._request["gang"]["hosts"][0] == self._here
        later = leader_of(self._request, self._ways[way])
        return may_return(self._request) and not leads and later == self._here
