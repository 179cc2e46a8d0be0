"""Brings a data set to several hosts at once: this machine, the store, or the host where its source is
gives every block once, and hosts pass them on to each other.

Blocks go to whoever has room for one, so that a slow host gets few of them, and what a host had that is
lost goes to another one. Who gets nothing from the other hosts for a while gets it from here.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from ...agent.base import blocks
from ...spec.errors import AgentError, HostError, LauncherError, SourceChanged, SyncError
from ...transport.agent_client import Agent
from ...transport.answers.data import DataBegun, DataExamined, DataOpened, DataPassed
from ...transport.certificates import certify
from ..concurrency import cancel, in_thread
from ..listeners import OnEvent, ignore_event
from .block_sources import SLOW, FromHost, source_of
from .delivery import BUSY, BYTES_A_SECOND, PATIENCE, TRIES, bring, bring_manifest
from .host import Delivered, Host
from .member import STUCK, Member

#: Sets below so many bytes go from here to each host.
LEAST = 16 << 20
#: The ports that hosts listen on for each other: the first and the last.
PORTS = (20000, 32000)
#: Copies at once that are not passed on: each is an rsync here.
COPIES = 8
#: Hosts that each one asks for blocks.
NEIGHBOURS = 24
#: Seconds between two looks at a host.
LOOK = 0.3
#: Seconds without a byte for anybody after which the host of a source is out of reach.
SILENT = 30.0

OnProgress = Callable[[str, int], None]
#: Called once with the hosts that no other host reaches.
OnAlone = Callable[[Sequence[str]], None]


async def bring_all(
    hosts: Sequence[Host],
    one: Delivered,
    progress: OnProgress,
    on_alone: OnAlone = lambda hosts: None,
    ports: tuple[int, int] = PORTS,
    seeds: Sequence[Host] = (),
    on_event: OnEvent = ignore_event,
) -> dict[str, int | HostError]:
    """Make sure that hosts have a version; return the bytes that travelled to each, or its error.

    ``seeds`` are hosts that may have it, and pass it on. What one host cannot do, or that it is lost,
    does not keep the others from getting it. ``on_event`` gets DataTaken.
    """
    taken: dict[str, int | HostError] = {}
    if any(one.folder(host) for host in hosts):
        from .nearby import take_nearby  # few hosts have users who share

        taken = await take_nearby(hosts, one, progress, on_event)
        seeds = [*seeds, *(host for host in hosts if isinstance(taken.get(host.name), int))]
        hosts = [host for host in hosts if host.name not in taken]
    if not hosts:
        return taken
    return taken | await _bring_all(hosts, one, progress, on_alone, ports, seeds)


async def _bring_all(
    hosts: Sequence[Host],
    one: Delivered,
    progress: OnProgress,
    on_alone: OnAlone,
    ports: tuple[int, int],
    seeds: Sequence[Host],
) -> dict[str, int | HostError]:
    group = _Group(one, progress, on_alone, ports)
    if one.listed.there:
        return await _from_host(group, hosts, seeds, one.listed.there)
    found: dict[str, int | HostError] = {}
    rest = list(hosts)
    store = one.listed.store
    worthwhile = len(hosts) + len(seeds) > 1 and one.listed.version.bytes >= LEAST
    if worthwhile and (store is None or store.by_ranges):
        found = await group.run(hosts, seeds)
        rest = [host for host in hosts if host.name not in found]
    gate = asyncio.Semaphore(COPIES)

    async def alone(host: Host) -> int | HostError:
        async with gate:
            try:
                return await bring(host, one, lambda percent: progress(host.name, percent))
            except HostError as error:
                return error

    copied = await asyncio.gather(*(alone(host) for host in rest))
    found |= {host.name: its for host, its in zip(rest, copied, strict=True)}
    if store is not None and any(isinstance(its, SourceChanged) for its in found.values()):
        await in_thread(store.doubt)
    return found


async def _from_host(
    group: _Group, hosts: Sequence[Host], seeds: Sequence[Host], there: str
) -> dict[str, int | HostError]:
    """Bring a version from the host where its source is, which needs no copy, to the others."""
    found: dict[str, int | HostError] = {host.name: 0 for host in hosts if host.name == there}
    seeds = [*seeds, *(host for host in hosts if host.name == there)]
    while rest := [host for host in hosts if host.name not in found]:
        found |= await group.run(rest, seeds)
        if len(found) < len(hosts):
            await asyncio.sleep(BUSY)  # somebody else brings it to one of them
    return found


class _Group:
    """The hosts of one copy."""

    def __init__(
        self, one: Delivered, progress: OnProgress, on_alone: OnAlone, ports: tuple[int, int]
    ) -> None:
        self._one, self._progress, self._on_alone, self._ports = one, progress, on_alone, ports
        self._version = one.listed.version
        self._source = source_of(one)
        self._members: list[Member] = []
        self._everything = 0
        self._cut: blocks.Blocks | None = None
        self._again: dict[int, float] = {}  # when a block was given once more
        self._doubted = 0.0  # when it was last asked whether the source has changed
        self._has_told = False

    async def run(self, hosts: Sequence[Host], seeds: Sequence[Host]) -> dict[str, int | HostError]:
        """Bring it; return nothing of hosts that have to get it in another way."""
        wanted = [host.name for host in hosts]
        agents: list[Agent] = []
        found: dict[str, int | HostError] = {}
        try:
            everybody = [*hosts, *(one for one in seeds if one.name not in wanted)]
            begun = await asyncio.gather(
                *(self._begin(host, agents, host.name in wanted) for host in everybody)
            )
            self._members = [one for one in begun if one is not None]
            for one in self._members:
                if one.name in wanted and one.is_whole:
                    found[one.name] = 0
                elif one.name in wanted and isinstance(one.error, HostError):
                    found[one.name] = one.error
            lacking = [one for one in self._members if not one.is_whole and one.is_alive]
            has_nobody = not any(one.is_whole for one in self._living())
            if isinstance(self._source, FromHost) and has_nobody:
                is_asked = any(host.name == self._one.listed.there for host in everybody)
                for one in lacking:
                    found[one.name] = self._source.not_given(one, self._members, is_asked)
                return found
            if not lacking or len(self._living()) < 2:
                return found
            await self._pass(lacking)
            for one in lacking:
                error = one.error
                if error is not None and not isinstance(error, HostError):
                    error = SyncError(one.name, error.message, error.hint)
                found[one.name] = error or one.sent + one.seen.took + one.seen.read
            return found
        finally:
            await asyncio.gather(*(agent.close() for agent in agents))

    def _lent_by(self, host: Host) -> str:
        """Return the folder of the host where the source is; "" for other hosts."""
        listed = self._one.listed
        return os.fspath(listed.folder) if host.name == listed.there else ""

    def _living(self) -> list[Member]:
        return [one for one in self._members if one.is_alive]

    # -- beginning

    async def _begin(self, host: Host, agents: list[Agent], is_wanted: bool) -> Member | None:
        """Return a host with an agent for this copy alone; None for one that has to get it alone."""
        version = self._version
        try:
            agent = await Agent.open(host.agent.host, host.connection)
        except AgentError:  # it allows no more sessions
            if not self._one.listed.there:
                return None
            text = "its sshd allows no other session on a connection, which passing data on takes"
            hint = "MaxSessions 10 in its sshd_config"
            return Member.that_failed(host, SyncError(host.name, text, hint))
        except HostError as error:
            return Member.that_failed(host, error)
        agents.append(agent)
        one = Member(host, agent)
        try:
            if not is_wanted:
                begun = await agent.answer(
                    DataBegun, "data", do="have", version=version.version, at=self._lent_by(host)
                )
                one.is_whole = begun.have
                return one if begun.have else None
            begun = await agent.answer(
                DataBegun,
                "data",
                do="begin",
                version=version.version,
                name=self._one.data.name,
                bytes=version.bytes,
                files=version.files,
                limit=host.agent.host.data_limit or 0,
                shared=self._one.folder(host),
            )
            one.is_whole = begun.have
            if begun.busy:
                return None
            one.begun = begun
        except HostError as error:
            one.error = error
        return one

    async def _pass(self, lacking: Sequence[Member]) -> None:
        """Let all hosts listen and meet, and have them pass blocks on until each has them all."""
        listed = self._one.listed
        specs, self._cut, _ = await asyncio.gather(
            in_thread(certify, [one.name for one in self._members]),
            in_thread(blocks.Blocks, os.fspath(listed.manifest)),
            asyncio.gather(*(self._list(one) for one in lacking)),
        )
        self._everything = (1 << self._cut.count) - 1
        if times := await self._source.times(self._cut):
            living = [one for one in lacking if one.is_alive]
            await asyncio.gather(*(self._say(one, "times", payload=times) for one in living))
        await asyncio.gather(*(self._open(one, specs[one.name]) for one in self._living()))
        living = self._living()
        joining = []
        for number, one in enumerate(living):
            others = (living[number + 1 :] + living[:number])[:NEIGHBOURS]
            if one in lacking:
                peers = {other.name: other.places for other in others}
                joining.append(self._say(one, "join", peers=peers))
        await asyncio.gather(*joining)
        tending = [asyncio.ensure_future(self._tend(one)) for one in lacking if one.is_alive]
        # Host by host: so blocks arrive about in their order, and sums are taken meanwhile.
        feeding = [
            asyncio.ensure_future(self._feed(one))
            for _ in range(self._source.begin(len(lacking)))
            for one in lacking
        ]
        try:
            await asyncio.gather(*tending)
        finally:
            await cancel(*tending, *feeding)

    async def _list(self, one: Member) -> None:
        try:
            assert one.begun
            sent, one.begun = await bring_manifest(one.host, one.agent, self._one, one.begun)
            one.sent += sent
        except HostError as error:
            one.error = error

    async def _open(self, one: Member, spec: dict[str, Any]) -> None:
        try:
            one.opened = await one.agent.answer(
                DataOpened,
                "data",
                patience=PATIENCE,
                do="pass",
                part="open",
                version=self._version.version,
                at=self._lent_by(one.host),
                ports=list(self._ports),
                spec=spec,
            )
            assert self._cut
            if one.opened.count != self._cut.count:
                raise SyncError(one.name, "it cuts the data set into other blocks")
            one.have = one.opened.bitmap & self._everything
        except HostError as error:
            one.error = error

    async def _say(self, one: Member, part: str, **request: Any) -> None:
        try:
            request.setdefault("version", self._version.version)
            await one.agent.ask("data", patience=SLOW, do="pass", part=part, **request)
        except HostError as error:
            one.error = error

    # -- one host

    async def _tend(self, one: Member) -> None:
        """Look at a host again and again until it has all of it, and has checked that."""
        one.joined = one.moved = time.monotonic()
        try:
            while True:
                await self._look(one)
                if not one.missing(self._everything) and await self._seal(one):
                    return
                self._require_hope(one)
                if isinstance(self._source, FromHost):
                    await self._require_way(one, self._source)
                await asyncio.sleep(LOOK)
        except LauncherError as error:
            one.error = error
            one.given.clear()

    async def _look(self, one: Member) -> None:
        keyed = any(other.seen.keyed for other in self._members)
        seen = await one.agent.answer(DataPassed, "data", do="pass", part="passed", keyed=keyed)
        now = time.monotonic()
        if seen.heard > one.seen.heard:
            one.moved = now
        if seen.reached:
            one.joined = now
        one.seen, one.have = seen, seen.bitmap & self._everything
        for number, path, code, text in seen.failed:
            one.failed[number] = (path, code, text)
        self._tell_of_lonely_ones(now)
        assert self._cut
        done = one.have.bit_count() * 100 // max(1, self._cut.count)
        self._progress(one.name, min(99, done))

    def _require_hope(self, one: Member) -> None:
        """Raise SyncError if a host lacks what nobody can give any more."""
        if any(self._source.can_feed(other) for other in self._living()):
            return
        if one.missing(self._everything) & ~self._held():
            text, hint = self._source.refusal or (
                f"the hosts that had all of {self._one.data.name} are gone",
                "start again: what has arrived stays there",
            )
            raise SyncError(one.name, text, hint)

    async def _require_way(self, one: Member, source: FromHost) -> None:
        """Raise SyncError for a host that gets nothing, and neither does any other."""
        now, moved = time.monotonic(), max(other.moved for other in self._living())
        if not one.missing(self._everything) or now < max(moved, self._doubted) + STUCK:
            return
        self._doubted = now
        if await source.has_changed(self._members):
            raise source.not_given(one, self._members, True)
        if now < moved + SILENT:
            return
        first, last = self._ports
        raise SyncError(
            one.name,
            f"it gets nothing of {self._one.data.name} from {self._one.listed.there}",
            f"can it connect to {self._one.listed.there} at ports {first} to {last}? launcher check "
            "tries it; what has arrived stays there",
        )

    def _held(self) -> int:
        """Return the blocks that a host has, or that are on their way to one."""
        held = 0
        for one in self._living():
            held |= one.have | one.on_their_way
        return held

    def _tell_of_lonely_ones(self, now: float) -> None:
        if isinstance(self._source, FromHost):
            return  # nothing comes to them in another way
        lonely = [
            one.name
            for one in self._living()
            if one.missing(self._everything) and not one.seen.reached and now > one.joined + STUCK
        ]
        if lonely and not self._has_told:
            self._has_told = True
            self._on_alone(lonely)

    async def _seal(self, one: Member) -> bool:
        """Have a host check all of it; return False if something has to be brought again."""
        size = self._version.bytes
        examined = await one.agent.answer(
            DataExamined,
            "data",
            patience=PATIENCE + size / BYTES_A_SECOND,
            do="pass",
            part="seal",
            keyed=any(other.seen.keyed for other in self._members),
        )
        if not examined.count:
            self._progress(one.name, 100)
            return True
        one.tries += 1
        one.is_direct = True
        path, why = examined.bad[0] if examined.bad else ("?", "differs")
        more = f", and {examined.count - 1} more files" if examined.count > 1 else ""
        changed = await self._source.has_changed(self._members)
        if one.tries >= TRIES or changed:
            raise SourceChanged(
                one.name,
                f"{self._one.data.name}: {path} {why} there{more}",
                "does something write to its source? If not, look at that host's disk",
            )
        return False

    # -- giving blocks

    async def _feed(self, one: Member) -> None:
        """Give a host blocks, one after the other, for as long as it is a member."""
        while one.is_alive:
            number = self._next_for(one)
            if number is None:
                await asyncio.sleep(LOOK / 2)
                continue
            one.given.add(number)
            try:
                assert self._cut
                await self._source.give(one, number, self._cut)
            except LauncherError as error:
                one.error = one.error or error
            finally:
                one.given.discard(number)

    def _next_for(self, one: Member) -> int | None:
        """Return the block to give to a host now: one that nobody has; or what it lacks itself, if it
        gets nothing from the others."""
        if not one.opened or not self._source.can_feed(one):
            return None
        missing = one.missing(self._everything) & ~one.on_their_way
        if not missing:
            return None
        if fresh := missing & ~self._held():
            return _lowest(fresh)
        now = time.monotonic()
        if not one.is_stuck(now):
            return None
        if not one.is_direct and one.seen.reached:
            for number, at in list(self._again.items()):
                if now < at + STUCK:
                    missing &= ~(1 << number)
        if not missing:
            return None
        number = _lowest(missing)
        self._again[number] = now
        return number


def _lowest(bitmap: int) -> int:
    return (bitmap & -bitmap).bit_length() - 1
