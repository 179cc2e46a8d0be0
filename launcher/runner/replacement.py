"""Gets a run going again without a host that it has lost: with a spare, or with fewer hosts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path

from ..fleet import cleanup
from ..jobs import planner
from ..records import codec
from ..records import events as ev
from ..records.reasons import Reason, StopReason
from ..records.state import log_hosts
from ..spec.errors import HostError, LauncherError
from ..spec.model import Host, Layout, Node, Request
from . import connect, launch, shutdown
from .event_log import Ledger, StopSwitch
from .files import code_sync, outputs
from .files.collector import Collector
from .host_session import Link
from .policy import spares
from .policy.restart import another_try, was_starting_again
from .rendezvous import meet
from .requirements import Wanted

#: Seconds for the last words of a process after its exit was told.
LAST_WORDS = 0.5


class Reserve:
    """The hosts that are not in the layout of a run. ``aside`` are those of them which have to be
    ended, and stand in the receipt: the lost ones, and spares that were tried in vain."""

    def __init__(
        self,
        request: Request,
        ledger: Ledger,
        switch: StopSwitch,
        links: list[Link],
        make: Callable[[Host], Link],
    ) -> None:
        self.aside: list[Link] = []
        self._left_over: list[Link] = []  # of another launcher, not ended yet
        self._cleared: set[str] = set()
        self.mending = False  # from the loss of a host until there is a layout, or certainly none
        self.collector = Collector(
            links, self.aside, ledger.folder.name, request.job.outputs, ledger
        )
        self._request, self._ledger, self._switch = request, ledger, switch
        self._links, self._make = links, make
        self._run = ledger.folder.name

    def rejoin(self, layout: Layout) -> None:
        """Knows those again that have left the run under another launcher, or were just to take part."""
        hosts, logs = log_hosts(self._ledger.events), self._ledger.folder.log_names()
        departed = self._ledger.state.departed
        for name in [*departed, *self._begun(layout)]:
            link = self._make(self._request.inventory.host(name))
            own = [n for n in logs if hosts.get(n.partition(".")[0]) == name]
            if name in departed:
                link.part(departed[name].reason, own)
            else:
                link.rejoin(self._run, self._request, own)
                self._left_over.append(link)
            self.aside.append(link)
        self.mending = bool(self._lost(layout)) and was_starting_again(self._ledger.events)

    def _begun(self, layout: Layout) -> list[str]:
        """Spares that another launcher was getting ready: a supervisor may be there."""
        inside = {*(n.host.name for n in layout.nodes), *self._ledger.state.departed}
        synced = (e.host for e in self._ledger.events if isinstance(e, ev.CodeSynced))
        return [name for name in dict.fromkeys(synced) if name not in inside]

    async def _clear(self) -> None:
        """What another launcher has begun on spares ends; then they are as good as any."""
        for link in self._left_over:
            why = StopReason.SPARE_LEFT_OVER
            await shutdown.stop([link], self._run, 0.0, why, self._ledger, self._switch)
            if link.lost is None:
                self._cleared.add(link.name)
        self._left_over.clear()

    def can_help(self, layout: Layout) -> bool:
        """Whether there may be a way without the hosts that are lost."""
        return bool(self._spares(layout, ()) or self._enough(layout, len(self._lost(layout))))

    async def why_again(
        self, layout: Layout, ports: Mapping[str, Collection[int]]
    ) -> Reason | None:
        """Why everything starts once more, where it does; ``ports`` are those of the run."""
        state = self._ledger.state
        if state.failure is not None:
            await self._hear_out(state.failure.host)
        if self._switch.asked.is_set() or (state.lost and not self.can_help(layout)):
            return None
        return another_try(
            state,
            self._ledger.events,
            self._ledger.last_words(),
            ports,
            0 if self._request.job.elastic else self._request.max_restarts,
        )

    async def _hear_out(self, host: str) -> None:
        """An exit may come here before the last words: those tell of a port that was taken."""
        link = next((link for link in self._links if link.name == host), None)
        if link is not None and not link.ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(LAST_WORDS):
                    await link.catch_up(self._run)

    async def fill(self, layout: Layout, attempt: int, started: float) -> tuple[Layout, int] | None:
        """The layout without lost hosts, and the number of the attempt that may begin with it; None
        when there is no such layout. ``attempt`` is the first number that is free."""
        if not self._lost(layout):
            return layout, attempt
        self.mending = True
        filled = await self._mend(layout, attempt, started)
        self.mending = False
        return filled

    async def _mend(
        self, layout: Layout, attempt: int, started: float
    ) -> tuple[Layout, int] | None:
        await self._clear()
        attempt = max(attempt, self._ledger.state.attempt + 1)
        await self.collector.pull(final=False)
        told: list[ev.Event] = []
        links = {link.name: link for link in self._links}
        tried: list[str] = []
        while lost := self._lost(layout):
            node = lost[0]
            reason = self._ledger.state.lost[node.host.name].reason
            waiting = self._spares(layout, tried)
            if waiting:
                host = waiting[0]
                tried.append(host.name)
                new = await self._ready(host, node, layout, links, attempt, started)
                if new is None:
                    attempt += 1  # logs of its setup stand under the old number
                    continue
                layout, told = (
                    new,
                    [
                        *told,
                        ev.NodeReplaced(
                            time.time(), node.host.name, host.name, node.node_rank, reason
                        ),
                    ],
                )
            elif self._enough(layout, 1):
                layout = spares.without(layout, node.host.name)
                told.append(
                    ev.NodesReduced(
                        time.time(), node.host.name, layout.num_nodes, layout.world_size, reason
                    )
                )
            else:
                return None
        if any(isinstance(event, ev.NodesReduced) for event in told):
            await self._share(layout, links)
        self._commit(layout, links, told, started)
        return layout, attempt

    def _lost(self, layout: Layout) -> list[Node]:
        return [node for node in layout.nodes if node.host.name in self._ledger.state.lost]

    def _enough(self, layout: Layout, fewer: int) -> bool:
        least = self._request.min_nodes
        return least is not None and layout.num_nodes - fewer >= least

    def _spares(self, layout: Layout, tried: list[str] | tuple[str, ...]) -> tuple[Host, ...]:
        state = self._ledger.state
        may = self._cleared | {link.name for link in self._left_over}
        aside = {link.name for link in self.aside} - may
        never = {*tried, *state.departed, *state.lost, *aside}
        return spares.spares(self._request.hosts, layout, never)

    def problem(self, link: Link) -> str:
        """Why a spare that was tried is not in the run, as the code of its error."""
        failed = (e for e in self._ledger.events if isinstance(e, ev.HostFailed))
        codes = [event.code for event in failed if event.host == link.name]
        return codes[-1] if codes and link in self.aside else ""

    # -- a spare

    async def _ready(
        self,
        host: Host,
        node: Node,
        layout: Layout,
        links: dict[str, Link],
        attempt: int,
        started: float,
    ) -> Layout | None:
        """The layout with a spare that could start now; None, and why is told, when it cannot."""
        link = self._make(host)
        for former in [other for other in self.aside if other.name == host.name]:
            self.aside.remove(former)
            await former.close()
        self._cleared.discard(host.name)
        self.aside.append(link)
        try:
            await connect.open_one(link)
            fitting = spares.in_place_of(node, host, link.facts, self._request.job)
            new = spares.with_node(layout, fitting)
            await self._give_code(link, layout, links)
            await launch.supervise([link], new, self._request, started, attempt)
            await self._give_outputs(link, fitting)
            await launch.setup([link], new, self._request.job, self._ledger, attempt)
            await self._look([link], new)
            links[host.name] = link
            going = [n.host.name for n in new.nodes if n not in self._lost(new)]
            await meet(self._request.job, [links[name] for name in going])
            return new
        except LauncherError as error:
            links.pop(host.name, None)
            code, message = error.code, getattr(error, "message", str(error))
            self._ledger.add(ev.HostFailed(time.time(), host.name, code, message, error.hint))
            await self._leave(link)
            return None

    async def _look(self, links: list[Link], layout: Layout) -> None:
        wanted = Wanted(links if self._request.check else [], layout, self._request.job)
        await wanted.begin()
        await wanted.require()

    async def _leave(self, link: Link) -> None:
        """A spare that is not taken. Where something was started it stays aside, for the receipt."""
        if link.supervised:
            grace, why = self._request.job.grace, StopReason.SPARE_UNFIT
            await shutdown.stop([link], self._run, grace, why, self._ledger, self._switch)
        else:
            self.aside.remove(link)
            await link.close()

    async def _give_code(self, link: Link, layout: Layout, links: dict[str, Link]) -> None:
        """What the others have, and nothing newer."""
        synced = {e.host: e.version for e in self._ledger.events if isinstance(e, ev.CodeSynced)}
        living = [n for n in layout.nodes if n not in self._lost(layout)]
        versions = [synced[n.host.name] for n in layout.nodes if n.host.name in synced]
        if not versions:
            raise HostError(
                link.name,
                "it is not known here which version of the code the run has",
                "a run of another machine gets spares from there only",
            )
        await code_sync.give_same_code(
            link,
            await asyncio.to_thread(Path(self._request.job.workdir).resolve),
            versions[0],
            self._request.job.outputs,
            self._run,
            [(links[n.host.name], n.root) for n in living if n.host.name in links],
            self._ledger.add,
        )

    # -- outputs

    async def _give_outputs(self, link: Link, node: Node) -> None:
        """What it lacks of all that was brought here from any host."""
        folder = planner.run_dir(node.root, self._run)
        hosts = [other.name for other in (*self._links, *self.aside) if other is not link]
        paths = self._request.job.outputs
        has = (await outputs.listed(link.agent, self._run, paths)).files
        await self.collector.handover.give(link, hosts, folder, paths, has)

    async def _share(self, layout: Layout, links: dict[str, Link]) -> None:
        """Ranks have moved: what a rank wrote may be looked for on another host now. Raises
        HostError: a rank without its checkpoint would begin from nothing."""
        for node in layout.nodes:
            await self._give_outputs(links[node.host.name], node)

    # -- done

    def _commit(
        self, layout: Layout, links: dict[str, Link], told: list[ev.Event], started: float
    ) -> None:
        """From here on the layout is another one, here and for every later launcher."""
        chosen = [node.host.name for node in layout.nodes]
        gone = [link for link in self._links if link.name not in chosen]
        self._links[:] = [links[name] for name in chosen]
        self.aside[:] = [link for link in self.aside if link.name not in chosen] + gone
        known = codec.describe_run(self._request, layout, started)
        self._ledger.note("run.json", known)
        for event in told:
            self._ledger.add(event)
        with suppress(OSError):  # a full disk
            away = [link.name for link in self.aside if link.agent.closed.done()]
            cleanup.remember(self._run, away)
