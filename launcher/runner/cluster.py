"""Watch the GPUs of all hosts: what they do, who holds them, and who waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from ..jobs.gpus import GpuState, states, with_foreign_held
from ..spec.errors import ConnectionLost, HostError
from ..spec.frozen import frozen
from ..spec.model import Facts, Host, Inventory
from ..transport.agent_client import Agent
from ..transport.answers.queue import Holder, Load, Now, Registered
from ..transport.ssh import AskPassphrase, Dialler
from .concurrency import cancel
from .policy.turn import Stand, short
from .queue import Queue, queue_of

#: Seconds until a host that did not answer is tried again.
AGAIN = 5.0
#: Seconds after which an answer is old: what it said is not shown as if it were so now.
OLD = 10.0


@frozen
class RunNow:
    """A run on a host; ``since`` is when it began there."""

    run: str
    user: str
    since: float | None = None


@frozen
class HostNow:
    """The GPUs of a host as they are now, and the ``runs`` there that neither hold
    one nor wait. Without GPUs,
    ``problem`` is why, if it is not that it has none: it does not answer, or is not asked since it is
    ``off``."""

    host: str
    gpus: tuple[GpuState, ...] = ()
    problem: str = ""
    off: bool = False
    runs: tuple[RunNow, ...] = ()


@frozen
class Cluster:
    """All hosts in the order of the inventory, and the queue as those that answer show it.

    All times are by this machine's clock.
    """

    time: float
    hosts: tuple[HostNow, ...]
    queue: Queue


#: When a host answered, how things stand there, and its answer.
_Said = tuple[float, Stand, Now]


class ClusterWatch:
    """Stays connected to all hosts and asks each of them again and again. Use it with ``async with``.

    Every host is on its own: one that does not answer delays none.
    """

    def __init__(
        self, inventory: Inventory, every: float = 2.0, ask: AskPassphrase | None = None
    ) -> None:
        self._inventory, self._every = inventory, every
        self._dialler = Dialler(inventory, ask)
        self._said: dict[str, _Said | HostError] = {}
        self._changed = asyncio.Event()
        self._watching: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        hosts = self._inventory.on
        self._watching = tuple(asyncio.ensure_future(self._watch(host)) for host in hosts)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await cancel(*self._watching)
        await self._dialler.close()

    async def settled(self, seconds: float) -> None:
        """Wait until every host has answered or failed, but at most so long."""
        try:
            async with asyncio.timeout(seconds):
                while len(self._said) < len(self._watching):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass  # the others are shown as they are

    def now(self) -> Cluster:
        """Return what is known now."""
        now, stands, hosts = time.time(), [], []
        for host in self._inventory.hosts:
            if host.off is not None:
                hosts.append(HostNow(host.name, problem=host.off, off=True))
                continue
            said = self._said.get(host.name)
            if said is None or isinstance(said, HostError):
                problem = "no answer yet" if said is None else said.message
                hosts.append(HostNow(host.name, problem=problem))
                continue
            heard, stand, answer = said
            silent = time.monotonic() - heard
            if silent > OLD + self._every:
                hosts.append(HostNow(host.name, problem=f"no answer for {silent:.0f} s"))
                continue
            stands.append(stand)
            gpus = _gpus(stand.facts, answer.gpus)
            runs = tuple(_without_gpus(answer, stand.facts.clock_offset))
            hosts.append(HostNow(host.name, gpus, runs=runs))
        return Cluster(now, tuple(hosts), queue_of(stands, now))

    async def _watch(self, host: Host) -> None:
        while True:
            try:
                await self._stay(host)
            except HostError as error:
                self._hear(host, error)
            except OSError as error:
                self._hear(host, ConnectionLost(host.name, str(error)))
            await asyncio.sleep(AGAIN)

    async def _stay(self, host: Host) -> None:
        connection = await self._dialler.connect(host.name)
        try:
            agent = await Agent.open(host, connection)
            try:
                facts = await agent.probe()
                while True:
                    said = await agent.answer(Now, "now")
                    stand = Stand(host, with_foreign_held(_as_now(facts, said)), said.turns)
                    self._hear(host, (time.monotonic(), stand, said))
                    await asyncio.sleep(self._every)
            finally:
                await agent.close()
        finally:
            connection.close()

    def _hear(self, host: Host, said: _Said | HostError) -> None:
        self._said[host.name] = said
        self._changed.set()


def _as_now(facts: Facts, said: Now) -> Facts:
    """Return the facts of a host with what it says now."""
    used = {index: load.memory for index, load in said.gpus.items()}
    return replace(
        facts,
        gpus=tuple(replace(gpu, memory_used=used.get(gpu.index) or 0) for gpu in facts.gpus),
        gpu_users=said.gpu_users,
        leased={index: _named(holder) for index, holder in said.leased.items()},
    )


def _named(holder: Holder) -> Mapping[str, Any]:
    known = {"user": holder.user, "run": holder.run, "since": holder.since}
    return {name: value for name, value in known.items() if value is not None}


def _without_gpus(said: Now, offset: float) -> Iterator[RunNow]:
    """Yield the runs that hold no GPU and wait for none, with times by this machine's clock."""
    known = {(_user(one), short(one.run)) for one in said.leased.values() if one.run}
    known |= {(ticket.user, short(ticket.run)) for ticket in said.tickets}
    for one in said.runs:
        if (_user(one), short(one.run)) not in known:
            yield RunNow(one.run, _user(one), None if one.since is None else one.since - offset)


def _user(one: Holder | Registered) -> str:
    return "?" if one.user is None else str(one.user)


def _gpus(facts: Facts, loads: Mapping[int, Load]) -> tuple[GpuState, ...]:
    """Return the GPUs with what they do, and times by this machine's clock."""
    found = []
    for gpu in states(facts):
        load = loads.get(gpu.index, Load())
        since = None if gpu.since is None else gpu.since - facts.clock_offset
        found.append(replace(gpu, percent=load.percent, celsius=load.celsius, since=since))
    return tuple(found)
