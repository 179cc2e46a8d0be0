"""The ways to run of a run that waits on several hosts, and which of them may begin now. Pure.

One that needs all of its hosts has one way; one that may choose has a way for each choice. See
docs/decisions/0082-hosts-choose.md.
"""

from __future__ import annotations

from . import gang, stands, turns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..base.messages import GatherRequest, StartRequest, Way


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


def decide(
    known: Sequence[stands.Stand], run: str, ways: Sequence[Way]
) -> gang.Turn | turns.Wait | None:
    """Return the way that a run may begin now, from how things stand on hosts, or what it waits for.

    None: it has no ticket, or the hosts that are free do not reach each other.
    """
    by_hosts = {_with_gpus(way): number for number, way in enumerate(ways)}
    answer = _answer(known, run, hosts_with_gpus(ways))
    if not isinstance(answer, turns.Begin):
        return answer
    untried = list(by_hosts)  # where those that it would take do not reach each other
    while not isinstance(answer, turns.Begin) or frozenset(answer.gpus) not in by_hosts:
        if not untried:
            return None
        answer = _answer(known, run, untried.pop(0))
    number = by_hosts[frozenset(answer.gpus)]
    return _turn(number, ways[number], answer.gpus)


def _answer(
    known: Sequence[stands.Stand], run: str, hosts: Iterable[str]
) -> turns.Begin | turns.Wait | None:
    return next((one for one in stands.decide(known, run, hosts) if one.name == run), None)


def _with_gpus(way: Way) -> frozenset[str]:
    return frozenset(host for host, count in way["counts"].items() if count)


def _turn(number: int, way: Way, gpus: Mapping[str, Sequence[int]]) -> gang.Turn:
    mine = {host: list(gpus.get(host, ()))[:count] for host, count in way["counts"].items()}
    return gang.Turn(number, mine)
