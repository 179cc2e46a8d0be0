"""The ways to run of a run that may begin on any of its hosts, where there are too many to list. Pure.

A run on 8 of 16 hosts has 12,870 ways. What a host starts in one of them depends on its place among
those that are chosen, and on the names and addresses of these alone. So there is a start request for
each place, with tokens for the names and addresses of all places. The number of a way has a bit for
each host. See docs/decisions/0096-any-number.md.
"""

from __future__ import annotations

from .. import template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from ...base.messages import AnyHosts, Meeting, Message, StartRequest, Way


class AnyOf:
    """All ways to run on as few as the ``least`` and as many as the ``most`` of some hosts, of each of
    which the run needs as many GPUs. The first host of a way has to be one that the others reach."""

    def __init__(self, told: AnyHosts) -> None:
        self._told, self._hosts = told, told["hosts"]
        self.count, self.least, self.most = told["gpus"], told["least"], told["most"]
        self.hosts = next(iter(self.behind(self.least)), [])  # those that are part of a way

    def __getitem__(self, number: int) -> Way:
        """Return the way of a number. Raises IndexError where there is none."""
        chosen = self._chosen(number)
        at = self._meeting(chosen)
        if at is None:
            raise IndexError(number)
        tokens = self._told["tokens"][str(len(chosen))]
        return {
            "counts": dict.fromkeys(chosen, self.count),
            "tokens": {host: tokens[place] for place, host in enumerate(chosen)},
            "address": at["address"],
            "interfaces": {
                host: at["interfaces"][host] for host in chosen if host in at["interfaces"]
            },
            "addresses": {
                host: at["addresses"][host] for host in chosen if host in at["addresses"]
            },
        }

    def number_of(self, hosts: Collection[str]) -> int | None:
        """Return the number of the way on these hosts; None where there is none."""
        number = sum(1 << index for index, host in enumerate(self._hosts) if host in hosts)
        chosen = self._chosen(number)
        return number if len(chosen) == len(hosts) and self._meeting(chosen) else None

    def behind(self, size: int) -> Iterable[list[str]]:
        """Yield the hosts among which each way of a size chooses, by the host that is its first."""
        for index, host in enumerate(self._hosts):
            if len(self._hosts) - index >= size and self._meeting([host] * size):
                yield self._hosts[index:]

    def suffice(self, there: Collection[str]) -> bool:
        """Return whether there is a way to run on some of these hosts."""
        return any(
            some[0] in there and sum(host in there for host in some) >= self.least
            for some in self.behind(self.least)
        )

    def start_of(
        self, starts: Mapping[str, StartRequest], number: int, here: str, packed: Sequence[str]
    ) -> StartRequest | None:
        """Return what a host starts in a way, but for GPUs and ports; None if it is not part of it."""
        chosen = self._chosen(number)
        at = self._meeting(chosen)
        start = starts.get("%d.%d" % (len(chosen), chosen.index(here))) if here in chosen else None
        if start is None or at is None:
            return None
        pairs = [(self._told["master"], at["address"])]
        for place, host in enumerate(chosen):
            name, address, interface = self._told["marks"][place]
            pairs += [(name, host), (address, at["addresses"].get(host, ""))]
            pairs += [(interface, at["interfaces"].get(host, ""))]
        entries: list[Message] = [
            {"host": host, "address": at["addresses"][host], "names": self._told["names"][host]}
            for host in chosen
        ]
        return template.filled_for_place(start, pairs, entries, packed)

    def _chosen(self, number: int) -> list[str]:
        if not 0 < number < 1 << len(self._hosts):
            return []
        return [host for index, host in enumerate(self._hosts) if number >> index & 1]

    def _meeting(self, chosen: Sequence[str]) -> Meeting | None:
        """Return where hosts meet, and how they reach each other."""
        if not self.least <= len(chosen) <= self.most:
            return None
        return self._told["heads" if len(chosen) > 1 else "alone"].get(chosen[0])
