"""Has every pair of hosts try its network, in rounds of disjoint pairs.

Not responsible for what the agents measure or for what the numbers mean. n hosts need n - 1 rounds;
in a round each host tests with one other, first one way and then the other.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from .. import planning
from ..errors import HostError
from ..findings.pair import SLOW, usual_bandwidth
from ..findings.survey import Survey, Trial
from ..model import Host, Job
from ..remote import Agent

#: Seconds of bandwidth one way: for a few hosts, in all rounds together, and at least.
BANDWIDTH, BANDWIDTH_IN_ALL, BANDWIDTH_LEAST = 0.2, 3.0, 0.05
#: A pair with which something seems wrong is tried again alone, with so long for its bandwidth; and
#: for all of them there is so much time, and so much more for each host.
AGAIN, AGAIN_IN_ALL, AGAIN_A_HOST = 0.4, 4.0, 0.4
#: Seconds for one host to try another one.
PATIENCE = 25.0


def rounds(names: Sequence[str]) -> list[list[tuple[str, str]]]:
    """All pairs, once each, in as few rounds as possible: nobody is in two pairs of a round.

    The circle method: one stays, the others move on by a place.
    """
    seats: list[str | None] = [*names, *([None] if len(names) % 2 else [])]
    found = []
    for _ in range(len(seats) - 1):
        half = len(seats) // 2
        facing = zip(seats[:half], reversed(seats[half:]), strict=True)
        found.append([(a, b) for a, b in facing if a is not None and b is not None])
        seats[1:] = [seats[-1], *seats[1:-1]]
    return found


def ports_of(low: int, high: int) -> list[int]:
    """A few ports of a range: both ends and the middle."""
    return sorted({low, (low + high) // 2, high})


class Pairs:
    """The trials of the hosts that were surveyed."""

    def __init__(
        self,
        hosts: Mapping[str, Host],
        surveys: Mapping[str, Survey],
        agents: Mapping[str, Agent],
        progress: Callable[[str], None],
    ) -> None:
        self._hosts, self._surveys, self._agents = hosts, surveys, agents
        self._progress = progress
        # One each: addresses such as docker0's are on every host, and lead each host to itself.
        self._tokens = {name: secrets.token_hex(16) for name in surveys}
        self._mirrors: dict[str, Mapping[str, Any]] = {}
        self._names: dict[str, Mapping[str, list[str] | None]] = {}

    async def explore(self, ports: Sequence[int]) -> tuple[Trial, ...]:
        """Every way between two hosts, each direction for itself."""
        schedule = rounds(list(self._surveys))
        share = BANDWIDTH_IN_ALL / max(1, 2 * len(schedule))
        seconds = max(BANDWIDTH_LEAST, min(BANDWIDTH, share))
        trials: list[Trial] = []
        await asyncio.gather(*(self._prepare(name, ports) for name in self._surveys))
        try:
            for number, pairs in enumerate(schedule):
                self._progress(f"pairs of hosts: round {number + 1} of {len(schedule)}")
                both = await asyncio.gather(*(self._both_ways(a, b, seconds) for a, b in pairs))
                trials += [trial for ways in both for trial in ways]
            return await self._again(trials)
        finally:
            await asyncio.gather(*(self._ask(name, "unmirror") for name in self._mirrors))

    async def _ask(self, name: str, op: str, **request: Any) -> dict[str, Any] | HostError:
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._agents[name].ask(op, **request)
        except HostError as error:
            return error
        except TimeoutError:
            return HostError(name, f"no answer within {PATIENCE:.0f} s")

    async def _prepare(self, name: str, ports: Sequence[int]) -> None:
        answer = await self._ask(name, "mirror", ports=list(ports), token=self._tokens[name])
        if isinstance(answer, dict):
            self._mirrors[name] = answer
        others = [s.facts.hostname for other, s in self._surveys.items() if other != name]
        names = await self._ask(name, "resolve", names=sorted(set(others)))
        if isinstance(names, dict):
            self._names[name] = names["names"]

    async def _both_ways(self, a: str, b: str, seconds: float) -> tuple[Trial, Trial]:
        return await self._one_way(a, b, seconds), await self._one_way(b, a, seconds)

    async def _one_way(self, here: str, there: str, seconds: float) -> Trial:
        mirror = self._mirrors.get(there)
        if mirror is None:
            return Trial(here, there, error=f"{there} could not listen")
        survey = self._surveys[there]
        mtus = {interface.address: interface.mtu for interface in survey.interfaces}
        tried = candidates(self._hosts[there], survey)
        answer = await self._ask(
            here,
            "explore",
            addresses=[[ip, mtus.get(ip)] for ip in tried],
            ports=[*mirror["ports"], mirror["high"]],
            udp=mirror["udp"],
            token=self._tokens[there],
            seconds=seconds,
        )
        if isinstance(answer, HostError):
            return Trial(here, there, tried, error=answer.message)
        names = self._names.get(here, {}).get(survey.facts.hostname)
        return Trial(
            host=here,
            there=there,
            tried=tried,
            address=answer["address"],
            complete=tuple(answer["complete"]),
            interface=answer["interface"],
            closed={int(port): why for port, why in answer["closed"].items()},
            high=mirror["high"],
            mtu=answer.get("mtu"),
            mtu_expected=answer.get("mtu_expected"),
            round_trip=answer.get("round_trip"),
            bandwidth=answer.get("bandwidth"),
            names=tuple(names) if names is not None else None,
        )

    async def _again(self, trials: list[Trial]) -> tuple[Trial, ...]:
        """What seems wrong once more, alone: on a busy machine a pair may have had bad luck."""
        usual = usual_bandwidth(trials)
        slow = [n for n, t in enumerate(trials) if 0 < (t.bandwidth or 0.0) < SLOW * usual]
        broken = [n for n, t in enumerate(trials) if n not in slow and _is_broken(t)]
        for numbers in (slow, broken):
            deadline = time.monotonic() + AGAIN_IN_ALL + AGAIN_A_HOST * len(self._surveys)
            for number in numbers:
                if time.monotonic() > deadline:
                    break
                trials[number] = await self._once_more(trials[number], usual)
        return tuple(trials)

    async def _once_more(self, trial: Trial, usual: float) -> Trial:
        """Alone it may be faster than any pair in a round: that says no more than as fast as usual."""
        self._progress(f"once more: {trial.host} to {trial.there}")
        fresh = await self._one_way(trial.host, trial.there, AGAIN)
        if fresh.error or fresh.bandwidth is None:
            return replace(fresh, confirmed=True)
        best = max(fresh.bandwidth, trial.bandwidth or 0.0)
        return replace(fresh, bandwidth=min(best, usual) if usual else best, confirmed=True)


def _is_broken(trial: Trial) -> bool:
    small = trial.mtu is not None and trial.mtu < (trial.mtu_expected or 0)
    return bool(trial.error or trial.closed or small) or trial.bandwidth == 0.0


def candidates(host: Host, survey: Survey) -> tuple[str, ...]:
    """Addresses of a host in the order in which a run tries them; loopback only where there is no
    other, as among hosts of a sandbox."""
    every = planning.master_candidates(Job(run=("check",)), host, survey.facts, alone=False)
    own = [ip for _, ip in survey.facts.addresses]
    outside = tuple(ip for ip in every if ip in own and not ip.startswith("127."))
    return outside or tuple(ip for ip in every if ip.startswith("127."))
