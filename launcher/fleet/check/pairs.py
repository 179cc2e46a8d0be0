"""Test the network between every pair of hosts: cheap tests all at once, bandwidth in rounds.

In a round each host measures with one other, in both directions; all pairs of n hosts would take
n - 1 rounds.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ...jobs import planner
from ...spec.addresses import version
from ...spec.errors import BadAnswer, HostError
from ...spec.model import Host, Job
from ...transport.agent_client import Agent
from ...transport.answers.network import EchoPorts, Explored, Measured, Resolved, Route
from ..findings.pair import SLOW, usual_bandwidth
from ..findings.survey import PairTest, Survey

T = TypeVar("T")

#: Seconds to measure bandwidth in one direction.
BANDWIDTH = 0.4
#: Seconds for all rounds of bandwidth.
BANDWIDTH_IN_ALL = 3.2
#: The most others with which a host measures bandwidth.
PARTNERS = 8
#: Seconds of bandwidth for a route that looked wrong and is tried again, alone.
AGAIN = 0.4
#: Seconds to try routes again: for all of them, and in addition for each host.
AGAIN_IN_ALL, AGAIN_PER_HOST = 4.0, 0.2
#: How often a slow route is measured again before it is reported.
SLOW_TRIES = 3
#: Routes that a host tries at once: at 4 ports for each address, far below 1,024 sockets.
TOGETHER = 16
#: Seconds for that many routes, or for one bandwidth.
PATIENCE = 25.0


Pairing = list[tuple[str, str]]


def rounds(names: Sequence[str]) -> list[Pairing]:
    """Return all pairs in as few rounds as possible, with each host once in a round.

    The circle method: one stays, the others move on by one seat.
    """
    seats: list[str | None] = list(names)
    if len(names) % 2:
        seats.append(None)
    found = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        facing = zip(seats[:half], reversed(seats[half:]), strict=True)
        found.append([(a, b) for a, b in facing if a is not None and b is not None])
        seats[1:] = [seats[-1], *seats[1:-1]]
    return found


def ports_of(low: int, high: int) -> list[int]:
    """Return a few ports of a range: both ends and the middle."""
    return sorted({low, (low + high) // 2, high})


class Pairs:
    """The network tests between surveyed hosts."""

    def __init__(
        self,
        hosts: Mapping[str, Host],
        surveys: Mapping[str, Survey],
        agents: Mapping[str, Agent],
        progress: Callable[[str], None],
    ) -> None:
        self._hosts, self._surveys, self._agents = hosts, surveys, agents
        self._progress = progress
        versions = [planner.ip_versions(survey.facts) for survey in surveys.values()]
        self._shared = frozenset[int].intersection(*versions) if versions else frozenset[int]()
        # One token for each host: an address such as docker0's reaches the caller itself.
        self._tokens = {name: secrets.token_hex(16) for name in surveys}
        self._mirrors: dict[str, EchoPorts] = {}  # ports of the echo servers, by host
        self._names: dict[str, Mapping[str, tuple[str, ...] | None]] = {}

    async def explore(self, ports: Sequence[int], bandwidth: bool = True) -> tuple[PairTest, ...]:
        """Try every route between two hosts, in both directions."""
        self._progress(f"testing routes between {len(self._surveys)} hosts")
        await asyncio.gather(*(self._prepare(name, ports) for name in self._surveys))
        try:
            explored = await asyncio.gather(*(self._routes(name) for name in self._surveys))
            found = {(t.host, t.there): t for tests in explored for t in tests}
            if bandwidth:
                await self._speeds(found)
            await self._again(found)
            return tuple(found.values())
        finally:
            await asyncio.gather(
                *(self._ask(dict[str, Any], name, "unmirror") for name in self._mirrors)
            )

    async def _ask(self, kind: type[T], name: str, op: str, **request: Any) -> T | HostError:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._agents[name].answer(kind, op, **request)
        except HostError as error:
            return error
        except TimeoutError:
            return HostError(name, f"no answer within {PATIENCE:.0f} s")

    async def _prepare(self, name: str, ports: Sequence[int]) -> None:
        answer = await self._ask(
            EchoPorts, name, "mirror", ports=list(ports), token=self._tokens[name]
        )
        if isinstance(answer, EchoPorts):
            self._mirrors[name] = answer
        others = [s.facts.hostname for other, s in self._surveys.items() if other != name]
        resolved = await self._ask(Resolved, name, "resolve", names=sorted(set(others)))
        if isinstance(resolved, Resolved):
            self._names[name] = resolved.names

    async def _routes(self, here: str) -> list[PairTest]:
        """Try from one host to all others, starting with the next, so that not all call the same."""
        names = list(self._surveys)
        place = names.index(here)
        others = names[place + 1 :] + names[:place]
        found: list[PairTest] = []
        for start in range(0, len(others), TOGETHER):
            found += await self._try(here, others[start : start + TOGETHER])
        return found

    async def _try(self, here: str, others: Sequence[str]) -> list[PairTest]:
        """Try from one host to some others, at once."""
        routes = {there: route for there in others if (route := self._route(there))}
        answer = await self._ask(Explored, here, "explore", ways=list(routes.values()))
        if not isinstance(answer, HostError) and len(answer.ways) != len(routes):
            answer = BadAnswer(here, "its answer to explore has another number of routes")
        if isinstance(answer, HostError):
            return [PairTest(here, there, error=answer.message) for there in others]
        found = dict(zip(routes, answer.ways, strict=True))
        return [self._result(here, there, found.get(there)) for there in others]

    def _route(self, there: str) -> dict[str, Any] | None:
        """Return what another host's agent needs to try the route to this one."""
        mirror, survey = self._mirrors.get(there), self._surveys[there]
        mtus = {interface.address: interface.mtu for interface in survey.interfaces}
        tried = candidates(self._hosts[there], survey, self._shared)
        if mirror is None or not tried:
            return None
        return {
            "addresses": [[ip, mtus.get(ip)] for ip in tried],
            "ports": [*mirror.ports, mirror.high],
            "udp": mirror.udp,
            "token": self._tokens[there],
        }

    def _result(self, here: str, there: str, answer: Route | None) -> PairTest:
        if answer is None:
            return PairTest(here, there, error=f"{there} could not listen")
        survey = self._surveys[there]
        names = self._names.get(here, {}).get(survey.facts.hostname)
        return PairTest(
            host=here,
            there=there,
            tried=candidates(self._hosts[there], survey, self._shared),
            address=answer.address,
            complete=answer.complete,
            interface=answer.interface,
            closed=answer.closed,
            high=self._mirrors[there].high,
            mtu=answer.mtu,
            mtu_expected=answer.mtu_expected,
            round_trip=answer.round_trip,
            large=answer.large,
            names=tuple(names) if names is not None else None,
        )

    # -- bandwidth

    async def _speeds(self, found: dict[tuple[str, str], PairTest]) -> None:
        """Measure the bandwidth of all pairs, or of some for each host: a slow host is slow with all."""
        chosen = spread(rounds(list(self._surveys)), PARTNERS)
        seconds = min(BANDWIDTH, BANDWIDTH_IN_ALL / (2 * len(chosen)))
        for number, pairs in enumerate(chosen):
            self._progress(f"bandwidth: round {number + 1} of {len(chosen)}")
            for directed in (pairs, [(b, a) for a, b in pairs]):
                measured = (self._measured(found[pair], seconds) for pair in directed)
                found |= zip(directed, await asyncio.gather(*measured), strict=True)

    async def _measured(self, test: PairTest, seconds: float) -> PairTest:
        """Return the test with its bandwidth, if anything arrives at all."""
        mirror = self._mirrors.get(test.there)
        if mirror is None or test.address is None or test.large is False:
            return test
        answer = await self._ask(
            Measured,
            test.host,
            "bandwidth",
            address=test.address,
            port=[p for p in (*mirror.ports, mirror.high) if p not in test.closed][-1],
            token=self._tokens[test.there],
            seconds=seconds,
        )
        measured = None if isinstance(answer, HostError) else answer.bandwidth
        return replace(test, bandwidth=measured)

    # -- retries: on a busy machine a pair may have had bad luck

    async def _again(self, found: dict[tuple[str, str], PairTest]) -> None:
        patience = AGAIN_IN_ALL + AGAIN_PER_HOST * len(self._surveys)
        broken = [pair for pair, test in found.items() if _is_broken(test)]
        deadline = time.monotonic() + patience
        while broken and time.monotonic() < deadline:
            here, there = pair = broken.pop(0)
            self._progress(f"testing again: {here} to {there}")
            (fresh,) = await self._try(here, [there])
            found[pair] = replace(fresh, bandwidth=found[pair].bandwidth, confirmed=True)
        await self._all_again(found, broken)
        usual = usual_bandwidth(list(found.values()))
        slow = sorted((t.bandwidth, pair) for pair, t in found.items() if t.bandwidth)
        deadline = time.monotonic() + patience
        for bandwidth, pair in slow:
            if bandwidth >= SLOW * usual or time.monotonic() > deadline:
                break
            found[pair] = await self._slow_again(found[pair], usual)

    async def _all_again(
        self, found: dict[tuple[str, str], PairTest], broken: Sequence[tuple[str, str]]
    ) -> None:
        """Try the routes for which no time was left, together but without the others."""
        by_host: dict[str, list[str]] = {}
        for here, there in broken:
            by_host.setdefault(here, []).append(there)
        tried = (self._try(here, others[:TOGETHER]) for here, others in by_host.items())
        for tests in await asyncio.gather(*tried):
            for fresh in tests:
                old = found[fresh.host, fresh.there]
                found[fresh.host, fresh.there] = replace(fresh, bandwidth=old.bandwidth)

    async def _slow_again(self, test: PairTest, usual: float) -> PairTest:
        """Measure a slow route again, alone: it is slow only if it stays so.

        The result is capped at the usual bandwidth, because alone a route may beat any pair of a round.
        """
        self._progress(f"testing again: {test.host} to {test.there}")
        best = test.bandwidth or 0.0
        for _ in range(SLOW_TRIES):
            best = max(best, (await self._measured(test, AGAIN)).bandwidth or 0.0)
            if best >= SLOW * usual:
                break
        return replace(test, bandwidth=min(best, usual), confirmed=True)


def spread(every: list[Pairing], most: int) -> list[Pairing]:
    """Pick at most ``most`` rounds, evenly spaced: neighbours in a list may share a rack."""
    count = min(most, len(every))
    return [every[number * len(every) // count] for number in range(count)]


def _is_broken(test: PairTest) -> bool:
    small = test.mtu is not None and test.mtu < (test.mtu_expected or 0)
    return bool(test.error or test.closed or small) or test.large is False


def candidates(host: Host, survey: Survey, shared: Collection[int]) -> tuple[str, ...]:
    """Return a host's addresses in the order in which a run tries them.

    ``shared`` are the versions of IP that all hosts have. Loopback is only used without any other
    address, as among hosts of a sandbox.
    """
    every = planner.master_candidates(Job(run=("check",)), host, survey.facts, alone=False)
    own = [ip for _, ip in survey.facts.addresses]
    outside = [ip for ip in every if ip in own and not ip.startswith("127.")]
    outside = [ip for ip in outside if version(ip) in shared] or outside
    return tuple(outside) or tuple(ip for ip in every if ip.startswith("127."))
