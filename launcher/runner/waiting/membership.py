"""A run's part in its project: what a majority of all hosts says that it may use, and what it has.

A quota is decided on more than half of the inventory's hosts: their locks are taken in one order, what
the project has is read, and the run is written into the books of all of them. Two that decide at once
have a host in common. See docs/decisions/0066-projects.md.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...records.reasons import WaitReason
from ...spec.errors import ConnectionLost, GpusInUse, HostError, LauncherError
from ...spec.model import Host, Inventory, Request
from ...transport.agent_client import Agent
from ...transport.answers.queue import ProjectsThere
from ...transport.connection import Connection
from ...transport.ssh import AskPassphrase, Dialler
from ..context import RunContext
from ..host_session import HostSession
from ..policy import projects
from ..policy.projects import Standing, Use

#: Seconds for a host to answer, and until one that did not is tried again.
ANSWERS, AGAIN = 6.0, 10.0
#: Old runs that are removed from books at once.
TIDIED = 64
#: Seconds to wait for the lock of a project on one host, and between two tries.
LOCKED, PAUSE = 12.0, 0.05
#: Seconds for the hosts of a run to show it, while others wait for the locks.
SHOWN = 3.0


class HeldBack(Exception):
    """A rule of its project holds a run back."""

    def __init__(self, standing: Standing) -> None:
        super().__init__(str(standing.why))
        self.standing = standing


class Desks:
    """Connections to all hosts of an inventory, for what their books say. One that does not answer
    delays nobody for long."""

    def __init__(self, inventory: Inventory, ask: AskPassphrase | None = None) -> None:
        self.deciding = projects.voters(inventory)
        self._dialler = Dialler(inventory, ask)
        self._desks = {host.name: _Desk(self._dialler, host) for host in inventory.on}

    @property
    def everybody(self) -> list[str]:
        """The hosts that are on."""
        return list(self._desks)

    @property
    def names(self) -> list[str]:
        """The hosts that decide, in the one order in which everybody locks them."""
        return sorted(set(self.deciding.values()) & set(self._desks))

    async def look(self) -> dict[str, ProjectsThere]:
        """Return how projects stand on each host that answers."""
        names = list(self._desks)
        found = await asyncio.gather(*(self.ask(name, do="look") for name in names))
        return {name: one for name, one in zip(names, found, strict=True) if one is not None}

    async def ask(self, name: str, /, **request: Any) -> ProjectsThere | None:
        """Return the answer of a host; None if it gives none."""
        try:
            return await self._desks[name].ask(**request)
        except (HostError, OSError, TimeoutError):
            return None

    async def agent(self, name: str) -> Agent:
        """Return the agent of a host. Raises HostError, OSError, TimeoutError."""
        return await self._desks[name].agent()

    async def close(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(desk.close() for desk in self._desks.values()))
        await self._dialler.close()


class _Desk:
    """The connection to one host."""

    def __init__(self, dialler: Dialler, host: Host) -> None:
        self._dialler, self._host = dialler, host
        self._agent: Agent | None = None
        self._connection: Connection | None = None
        self._failed: tuple[float, str] | None = None
        self._opening = asyncio.Lock()

    async def agent(self) -> Agent:
        """Return the agent of the host. Raises HostError, OSError, TimeoutError."""
        async with self._opening:
            if self._agent is not None and not self._agent.closed.done():
                return self._agent
            if self._failed and time.monotonic() < self._failed[0] + AGAIN:
                raise ConnectionLost(self._host.name, self._failed[1])
            await self.close()
            try:
                async with asyncio.timeout(ANSWERS):
                    self._connection = await self._dialler.connect(self._host.name)
                    self._agent = await Agent.open(self._host, self._connection)
                    return self._agent
            except (HostError, OSError, TimeoutError) as error:
                await self.close()
                self._failed = time.monotonic(), str(error) or "no answer"
                raise

    async def ask(self, **request: Any) -> ProjectsThere:
        """Return the answer. Raises HostError, OSError, TimeoutError."""
        agent = await self.agent()
        try:
            async with asyncio.timeout(ANSWERS):
                return await agent.answer(ProjectsThere, "project", **request)
        except (HostError, OSError, TimeoutError) as error:
            if not isinstance(error, HostError) or isinstance(error, ConnectionLost):
                await self.close()
                self._failed = time.monotonic(), str(error) or "no answer"
            raise

    async def close(self) -> None:
        agent, self._agent = self._agent, None
        connection, self._connection = self._connection, None
        with suppress(LauncherError, OSError, TimeoutError):
            async with asyncio.timeout(ANSWERS):
                if agent is not None:
                    await agent.close()
        if connection is not None:
            connection.close()


class Membership:
    """Looks, takes and gives back. Without a project it has nothing to say."""

    def __init__(self, context: RunContext) -> None:
        request = context.request
        self._context = context
        self._rules = request.inventory.projects
        self.rule = (
            projects.rule_of(request.inventory, request.project) if request.project else None
        )
        self.uses: tuple[Use, ...] = ()
        self.standing = Standing(False)
        self._said: Mapping[str, ProjectsThere] = {}  # at the last look
        self.missing: tuple[
            str, ...
        ] = ()  # hosts that do not reach the one which decides, if one does
        self._all_desks: Desks | None = None
        self._joined: tuple[HostSession, ...] = ()

    @property
    def borrowed(self) -> tuple[Use, ...]:
        """The runs that have borrowed GPUs, as of the last look."""
        return projects.borrowing(self._rules, self.uses)

    @property
    def rules(self) -> dict[str, dict[str, Any]]:
        """What hosts are told of all projects."""
        return {
            one.name: {"quota": one.quota, "users": list(one.users), "limit": one.limit}
            for one in self._rules
        }

    def for_hosts(self, gpus: int) -> dict[str, Any] | None:
        """Return what hosts have to know to decide about a run that wants so many GPUs; None for one
        without a project."""
        if self.rule is None:
            return None
        return {
            "name": self.rule.name,
            "gpus": gpus,
            "rules": self.rules,
            "voters": self.desks.deciding,
            "preemptible": int(self._context.request.preemptible),
            "min_runtime": self.rule.min_runtime,
        }

    def suffice(self, hosts: Collection[str]) -> bool:
        """Return whether these hosts are enough to decide."""
        return projects.suffice(hosts, self.desks.deciding)

    def require_fit(self, gpus: int) -> None:
        """Raise InputError for a run that can never begin."""
        if self.rule is not None:
            projects.require_fit(self.rule, gpus, self._context.request.preemptible)

    async def look(self, gpus: int) -> Standing:
        """Return how the run stands now, as far as a majority says. Nothing is promised by that.

        Raises InputError if the user of a host may not use the project.
        """
        if self.rule is None:
            return self.standing
        said = await self.desks.look()
        for host in self._context.request.hosts:
            if there := said.get(host.name):
                projects.require_user(self.rule, there.user, host.name)
        self._said, self.standing = said, self._standing(said, gpus)
        return self.standing

    def standing_with(self, gpus: int) -> Standing:
        """Return how the run would stand with so many GPUs, as of the last look."""
        return self.standing if self.rule is None else self._standing(self._said, gpus)

    def lack_majority(self) -> None:
        """Note that the host which decides reaches too few others."""
        self.standing = Standing(False, WaitReason.NO_MAJORITY, silent=self.missing)

    async def take(self, gpus: Mapping[HostSession, Sequence[int]]) -> None:
        """Use GPUs in the project's name. Raises HeldBack, HostError."""
        if self.rule is None or not gpus:
            return
        count = sum(map(len, gpus.values()))
        self._joined = tuple(gpus)
        done = False
        try:
            await self._round(count, tuple(gpus))
            done = True
        except HeldBack as held:
            self.standing = held.standing
            raise
        finally:
            if not done:
                await self.give_back()

    async def give_back(self) -> None:
        """Use nothing in the project's name any more, as far as hosts can be reached."""
        joined, self._joined = self._joined, ()
        if self.rule is None or not joined:
            return
        leaving = (
            one.agent.ask("member", run=self._context.name, project="", gpus=0) for one in joined
        )
        await asyncio.gather(*leaving, return_exceptions=True)
        await self._each(self.desks.names, do="drop", run=self._context.name)

    async def forget(self, books: bool) -> None:
        """End the run's witnesses, and remove it from all ``books``: it is over."""
        state, do = self._context.state, "leave" if books else "dismiss"
        if self.rule is not None and (state.left_to or state.has_begun):
            await self._each(self.desks.everybody, do=do, run=self._context.name)

    async def close(self) -> None:
        """Close all connections; they are opened again when they are needed."""
        desks, self._all_desks = self._all_desks, None
        if desks is not None:
            await desks.close()

    # -- the round

    @property
    def desks(self) -> Desks:
        """Connections to all hosts."""
        if self._all_desks is None:
            request = self._context.request
            self._all_desks = Desks(request.inventory, request.ask_passphrase)
        return self._all_desks

    async def _join(self, session: HostSession, count: int) -> None:
        request = self._context.request
        assert self.rule is not None
        await session.insist(
            op="member",
            run=self._context.name,
            project=self.rule.name,
            gpus=count,
            preemptible=int(request.preemptible),
            within=int(self.standing.within),
            min_runtime=self.rule.min_runtime,
            rules=self.rules,
        )

    async def _round(self, count: int, sessions: Sequence[HostSession]) -> None:
        """Decide on a majority of all hosts, and write the run into their books. Raises HeldBack,
        HostError.

        The run's own hosts show it before: whoever reads its name in a book can ask them about it. They
        do not while others decide, or those that come at once would hold each other back.
        """
        assert self.rule is not None
        desks, name = self.desks, self.rule.name
        answering = set(await desks.look())
        locked: dict[str, ProjectsThere] = {}
        try:
            for host in [host for host in desks.names if host in answering]:
                if (there := await self._lock(host)) is not None:
                    locked[host] = there
            self._require_majority(locked)
            # The books are as of their locks. What lives is asked afterwards, or a run could seem over
            # that a host had not shown yet.
            now = await desks.look()
            self._require_majority({host: now[host] for host in locked if host in now})
            await self._tidy(now)
            self.standing = self._standing(now, count)
            if self.standing.why is not None:
                raise HeldBack(self.standing)
            await shown({session.name: self._join(session, count) for session in sessions})
            hosts = [session.name for session in sessions]
            more: dict[str, Any] = {"run": self._context.name, "gpus": count, "hosts": hosts}
            more["preemptible"] = int(self._context.request.preemptible)
            written = await self._each(list(locked), do="write", project=name, **more)
            self._require_majority({host: locked[host] for host in written})
        finally:
            await self._each(list(locked), do="unlock")

    async def _tidy(self, said: Mapping[str, ProjectsThere]) -> None:
        """Remove runs of the project and this user that are over from the books."""
        assert self.rule is not None
        over = [
            (host, run)
            for host, there in said.items()
            for run in projects.over(there, said, self.desks.deciding, self.rule.name)
        ]
        dropping = (self.desks.ask(host, do="drop", run=run) for host, run in over[:TIDIED])
        await asyncio.gather(*dropping)

    async def _lock(self, host: str) -> ProjectsThere | None:
        """Lock the project on a host; return None if that is not to be had."""
        assert self.rule is not None
        until = time.monotonic() + LOCKED
        while time.monotonic() < until:
            there = await self.desks.ask(host, do="lock", project=self.rule.name)
            if there is None or there.locked:
                return there
            if there.holder and there.holder not in self.rule.users:
                return None  # it is nobody's who decides about this project
            await asyncio.sleep(PAUSE)
        return None

    async def _each(self, names: Sequence[str], /, **request: Any) -> list[str]:
        """Ask hosts the same; return those that have done it."""
        found = await asyncio.gather(*(self.desks.ask(name, **request) for name in names))
        return [name for name, there in zip(names, found, strict=True) if there is not None]

    def _require_majority(self, there: Mapping[str, ProjectsThere]) -> None:
        deciding = self.desks.deciding
        if not projects.suffice(there, deciding):
            raise HeldBack(projects.no_majority(there, deciding))

    def _standing(self, said: Mapping[str, ProjectsThere], gpus: int) -> Standing:
        assert self.rule is not None
        deciding = self.desks.deciding
        if not projects.suffice(said, deciding):
            return projects.no_majority(said, deciding)
        self.uses = projects.uses(self._rules, said, deciding)
        request = self._context.request
        return projects.standing(
            self.rule, self.uses, self._context.name, gpus, request.preemptible
        )


async def shown(joining: Mapping[str, Coroutine[Any, Any, None]]) -> None:
    """Wait until hosts show a run, by name. Raises HeldBack where one does not in time, HostError."""
    tasks = {host: asyncio.ensure_future(one) for host, one in joining.items()}
    try:
        async with asyncio.timeout(SHOWN):
            await asyncio.gather(*tasks.values())
    except TimeoutError:
        late = tuple(host for host, task in tasks.items() if task.cancelled())
        raise HeldBack(Standing(False, WaitReason.NO_MAJORITY, silent=late)) from None


async def forget(request: Request, run: str, books: bool) -> None:
    """End what hosts that answer have of a run which is over: its witnesses, and its ``books``."""
    if request.project:
        desks, do = (
            Desks(request.inventory, request.ask_passphrase),
            "leave" if books else "dismiss",
        )
        try:
            await asyncio.gather(*(desks.ask(name, do=do, run=run) for name in desks.everybody))
        finally:
            await desks.close()


def refusal(standing: Standing, project: str, most: int | None, gpus: int) -> GpusInUse:
    """Return the error of a run that does not wait until the rules of its project let it begin."""
    if standing.why is WaitReason.NO_MAJORITY:
        return GpusInUse(
            f"too few hosts answer to decide about project {project}: "
            f"not {', '.join(standing.silent[:4])}",
            "--wait forever waits for them; without --project no quota is asked for",
        )
    if standing.why is WaitReason.LIMIT:
        return GpusInUse(
            f"project {project} has {standing.used} GPUs, and may have {most}: {gpus} more are too many",
            "--wait forever waits until it has fewer",
        )
    return GpusInUse(
        f"project {project} has {standing.used} GPUs, and its quota of {most} leaves no room for {gpus}",
        "--preemptible borrows GPUs, and --wait forever waits for the quota",
    )
