"""The ways to run of a run that waits on several hosts, and which of them may begin now. Pure.

One that needs all of its hosts has one way; one that may choose has a way for each choice. An elastic
one has ways of several sizes: it takes the largest that it may begin, and waits for the smallest. The
rules of its project, if it has one, are about the number of GPUs of each size. See
docs/decisions/0082-hosts-choose.md and docs/decisions/0096-elastic-in-projects.md.
"""

from __future__ import annotations

from . import gang, stands, turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from typing import Any

    from ..base.messages import GatherRequest, Given, StartRequest, Way
    from .quotas import Standing


def ways_of(request: GatherRequest) -> tuple[list[Way], dict[str, StartRequest]]:
    """Return the ways to run, and what this host starts in each that it is part of, by its number."""
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


def hosts_with_gpus(ways: Iterable[Way]) -> list[str]:
    """Return the hosts of which any way needs GPUs."""
    return sorted({host for way in ways for host in _with_gpus(way)})


def numbers_of(ways: Iterable[Way]) -> list[int]:
    """Return the numbers of GPUs that ways need in all, the least first."""
    return sorted({sum(way["counts"].values()) for way in ways})


def decide(
    known: Sequence[stands.Stand],
    run: str,
    ways: Sequence[Way],
    standings: Mapping[int, Standing] | None = None,
) -> gang.Turn | turns.Wait | None:
    """Return the way that a run may begin now, from how things stand on hosts, or what it waits for.

    Of a run with a project, ``standings`` say how it stands with each number of GPUs: a way that the
    rules hold back is passed over, and one that borrows has the place of a run that borrows.

    None: it has no ticket, the hosts that are free do not reach each other, or the rules of its project
    hold it back.
    """
    by_size: dict[tuple[int, ...], dict[frozenset[tuple[str, int]], int]] = {}
    for number, way in enumerate(ways):
        sizes = tuple(sorted(filter(None, way["counts"].values()), reverse=True))
        by_size.setdefault(sizes, {})[_parts(way["counts"])] = number
    hosts, waits = hosts_with_gpus(ways), None
    for sizes, by_parts in sorted(by_size.items(), key=lambda one: -len(one[0])):
        own = sizes if len(by_size) > 1 else ()  # of one size, the ticket says which
        standing = standings[sum(sizes)] if standings else None
        if standing and standing.why is not None:
            continue
        within = standing is None or standing.within
        found = _decide(known, run, hosts, by_parts, own, within)
        if isinstance(found, turns.Begin):
            number = by_parts[_taken(found)]
            return _turn(number, ways[number], found.gpus)
        waits = found
    return waits


def _decide(
    known: Sequence[stands.Stand],
    run: str,
    hosts: Iterable[str],
    by_parts: Collection[frozenset[tuple[str, int]]],
    sizes: Sequence[int],
    within: bool,
) -> turns.Begin | turns.Wait | None:
    """Return which of some ways a run may begin now, or what it waits for; see :func:`decide`."""
    answer = _answer(known, run, hosts, sizes, within)
    if not isinstance(answer, turns.Begin):
        return answer
    untried = list(by_parts)  # where those that it would take do not reach each other
    while not isinstance(answer, turns.Begin) or _taken(answer) not in by_parts:
        if not untried:
            return None
        answer = _answer(known, run, [host for host, _ in untried.pop(0)], sizes, within)
    return answer


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


def _with_gpus(way: Way) -> frozenset[str]:
    return frozenset(host for host, count in way["counts"].items() if count)


def _turn(number: int, way: Way, gpus: Mapping[str, Sequence[int]]) -> gang.Turn:
    mine = {host: list(gpus.get(host, ()))[:count] for host, count in way["counts"].items()}
    return gang.Turn(number, mine)


def tokens_of(ways: Sequence[Way], number: int) -> Mapping[str, Mapping[str, Sequence[str]]]:
    """Return the tokens of a way; none of one that there is not."""
    return ways[number]["tokens"] if 0 <= number < len(ways) else {}


def fits(ways: Sequence[Way], number: int, host: str, given: Mapping[str, Any]) -> bool:
    """Return whether a host has as many ``names`` and ``ports`` as a way has tokens for."""
    tokens, ports = tokens_of(ways, number).get(host), given["ports"]
    if tokens is None or not all(0 < port < 1 << 16 for port in ports):
        return False
    return len(given["names"]) == len(tokens["names"]) and len(ports) == len(tokens["ports"])


def is_whole(ways: Sequence[Way], number: int, given: Mapping[str, Given]) -> bool:
    """Return whether each host of a way was given what it asked for."""
    tokens = tokens_of(ways, number)
    for host, own in tokens.items():
        there = given.get(host)
        if not there or not fits(ways, number, host, there):
            return False
        if len(there["gpus"]) != len(own["gpus"]):
            return False
    return bool(tokens)
