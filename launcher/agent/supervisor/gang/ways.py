"""The ways to run of a run that waits on several hosts, and which of them may begin now. Pure.

One that needs all of its hosts has one way; one that may choose has a way for each choice: they are
listed, or any of some hosts will do, see any_of.py. An elastic one has ways of several sizes: it takes
the largest that it may begin, and waits for the smallest. The rules of its project, if it has one, are
about the number of GPUs of each size. See docs/decisions/0082-hosts-choose.md and
docs/decisions/0096-any-number.md.
"""

from __future__ import annotations

from .. import stands, turns
from . import decisions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any, Dict, List, Union

    from ...base.messages import GatherRequest, Given, StartRequest, Way
    from ..projects.quotas import Standing
    from .any_of import AnyOf

    #: They are listed, or any of some hosts will do.
    Ways = Union[List[Way], AnyOf]
    #: What this host starts in each way that it is part of.
    Starts = Dict[str, StartRequest]


def ways_of(request: GatherRequest) -> tuple[Ways, Starts]:
    """Return the ways to run, and what this host starts in them: see :func:`start_of`."""
    if request.get("any_of"):
        from .any_of import AnyOf  # few runs have as many ways

        return AnyOf(request["any_of"] or {}), request["starts"]  # type: ignore[arg-type]
    if request.get("ways"):
        return request["ways"], request["starts"]
    only: Way = {
        "counts": request["counts"],
        "tokens": request["tokens"],
        "address": request["gang"]["address"],
        "interfaces": request["interfaces"],
        "addresses": request["addresses"],
    }
    return [only], {"0": request["start"]}


def start_of(
    ways: Ways, starts: Starts, number: int, here: str, packed: Sequence[str] = ()
) -> StartRequest | None:
    """Return what a host starts in a way, but for GPUs and ports; None if it has no part in it."""
    if isinstance(ways, list):
        return starts.get(str(number))
    return ways.start_of(starts, number, here, packed)


def hosts_of(ways: Ways) -> list[str]:
    """Return the hosts that are part of any way."""
    if isinstance(ways, list):
        return sorted({host for way in ways for host in way["tokens"]})
    return sorted(ways.hosts)


def sizes_of(ways: Ways) -> list[int]:
    """Return on how many hosts the run may begin, the least first."""
    if isinstance(ways, list):
        return sorted({len(way["tokens"]) for way in ways})
    return list(range(ways.least, ways.most + 1))


def hosts_with_gpus(ways: Ways) -> list[str]:
    """Return the hosts of which any way needs GPUs."""
    if isinstance(ways, list):
        return sorted({host for way in ways for host, count in way["counts"].items() if count})
    return sorted(ways.hosts)


def numbers_of(ways: Ways) -> list[int]:
    """Return the numbers of GPUs that ways need in all, the least first."""
    if isinstance(ways, list):
        return sorted({sum(way["counts"].values()) for way in ways})
    return [size * ways.count for size in sizes_of(ways)]


class _OfSize:
    """The ways that need these numbers of GPUs: which one it is by the GPUs of each host, and the hosts
    among which to choose, where those that would be taken do not reach each other."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.by_parts: dict[frozenset[tuple[str, int]], int] = {}

    def number_of(self, parts: frozenset[tuple[str, int]]) -> int | None:
        return self.by_parts.get(parts)

    def others(self) -> Iterable[list[str]]:
        return ([host for host, _ in parts] for parts in self.by_parts)


class _OfAny(_OfSize):
    """The same, of a run that may begin on any of some hosts."""

    def __init__(self, ways: AnyOf, size: int) -> None:
        super().__init__([ways.count] * size)
        self._ways = ways

    def number_of(self, parts: frozenset[tuple[str, int]]) -> int | None:
        return self._ways.number_of([host for host, _ in parts])

    def others(self) -> Iterable[list[str]]:
        return self._ways.behind(len(self.sizes))


def _by_size(ways: Ways) -> list[_OfSize]:
    """Return the ways by their size, those with most hosts first."""
    if not isinstance(ways, list):
        return [_OfAny(ways, size) for size in reversed(sizes_of(ways))]
    found: dict[tuple[int, ...], _OfSize] = {}
    for number, way in enumerate(ways):
        sizes = tuple(sorted(filter(None, way["counts"].values()), reverse=True))
        found.setdefault(sizes, _OfSize(sizes)).by_parts[_parts(way["counts"])] = number
    return sorted(found.values(), key=lambda one: -len(one.sizes))


def decide(
    known: Sequence[stands.Stand],
    run: str,
    ways: Ways,
    standings: Mapping[int, Standing] | None = None,
) -> decisions.Turn | turns.Wait | None:
    """Return the way that a run may begin now, from how things stand on hosts, or what it waits for.

    Of a run with a project, ``standings`` say how it stands with each number of GPUs: a way that the
    rules hold back is passed over, and one that borrows has the place of a run that borrows.

    None: it has no ticket, the hosts that are free do not reach each other, or the rules of its project
    hold it back.
    """
    by_size, hosts, waits = _by_size(ways), hosts_with_gpus(ways), None
    for of_size in by_size:
        own = of_size.sizes if len(by_size) > 1 else ()  # of one size, the ticket says which
        standing = standings[sum(of_size.sizes)] if standings else None
        if standing and standing.why is not None:
            continue
        within = standing is None or standing.within
        found = _decide(known, run, hosts, of_size, own, within)
        if isinstance(found, turns.Begin):
            number = of_size.number_of(_taken(found))
            assert number is not None
            return _turn(number, ways[number], found.gpus)
        waits = found
    return waits


def _decide(
    known: Sequence[stands.Stand],
    run: str,
    hosts: Iterable[str],
    of_size: _OfSize,
    sizes: Sequence[int],
    within: bool,
) -> turns.Begin | turns.Wait | None:
    """Return which of some ways a run may begin now, or what it waits for; see :func:`decide`."""
    answer = _answer(known, run, hosts, sizes, within)
    if not isinstance(answer, turns.Begin):
        return answer
    if of_size.number_of(_taken(answer)) is not None:
        return answer
    for some in of_size.others():  # those that it would take do not reach each other
        answer = _answer(known, run, some, sizes, within)
        if isinstance(answer, turns.Begin) and of_size.number_of(_taken(answer)) is not None:
            return answer
    return None


def _parts(counts: Mapping[str, int]) -> frozenset[tuple[str, int]]:
    """Return how many GPUs are needed of each host: two ways on the same hosts may differ in that."""
    return frozenset((host, count) for host, count in counts.items() if count)


def _taken(answer: turns.Begin) -> frozenset[tuple[str, int]]:
    return _parts({host: len(gpus) for host, gpus in answer.gpus.items()})


def _answer(
    known: Sequence[stands.Stand],
    run: str,
    hosts: Iterable[str],
    sizes: Sequence[int],
    within: bool,
) -> turns.Begin | turns.Wait | None:
    answers = stands.decide(known, run, hosts, sizes, within)
    return next((one for one in answers if one.name == run), None)


def _turn(number: int, way: Way, gpus: Mapping[str, Sequence[int]]) -> decisions.Turn:
    mine = {host: list(gpus.get(host, ()))[:count] for host, count in way["counts"].items()}
    return decisions.Turn(number, mine)


def tokens_of(ways: Ways, number: int) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Return the tokens of a way; none of one that there is not."""
    try:
        return ways[number]["tokens"] if number >= 0 else {}
    except IndexError:
        return {}


def fits(ways: Ways, number: int, host: str, given: Mapping[str, Any]) -> bool:
    """Return whether a host has as many ``names`` and ``ports`` as a way has tokens for."""
    tokens, ports = tokens_of(ways, number).get(host), given["ports"]
    if tokens is None or not all(0 < port < 1 << 16 for port in ports):
        return False
    return len(given["names"]) == len(tokens["names"]) and len(ports) == len(tokens["ports"])


def is_whole(ways: Ways, number: int, given: Mapping[str, Given]) -> bool:
    """Return whether each host of a way was given what it asked for."""
    tokens = tokens_of(ways, number)
    for host, own in tokens.items():
        there = given.get(host)
        if not there or not fits(ways, number, host, there):
            return False
        if len(there["gpus"]) != len(own["gpus"]):
            return False
    return bool(tokens)
