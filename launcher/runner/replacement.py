"""Replaces a lost host with a spare, or continues the run with fewer hosts."""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace

from ..fleet import cleanup
from ..records import events as ev
from ..records.reasons import StopReason
from ..spec.errors import LauncherError
from ..spec.frozen import frozen
from ..spec.model import Host, Layout, Node
from . import shutdown
from .context import RunContext
from .files.collector import Collector
from .host_session import HostSession
from .host_set import HostSet
from .policy import spares
from .policy.restart import was_starting_again
from .spare_setup import SpareSetup


@frozen
class _Draft:
    """The run as it may continue. ``attempt`` is the first free number of an attempt."""

    layout: Layout
    attempt: int
    tried: tuple[str, ...] = ()
    shared: tuple[Host, ...] = ()  # spares whose GPUs somebody uses outside launcher: tried last
    events: tuple[ev.NodeReplaced | ev.NodesReduced, ...] = ()


class Replacement:
    """Finds a layout without lost hosts, and makes it the run's."""

    def __init__(self, context: RunContext, hosts: HostSet, collector: Collector) -> None:
        self.is_mending = False  # from a loss until a new layout is found or ruled out
        self._context, self._hosts, self._collector = context, hosts, collector
        self._setup = SpareSetup(context, hosts, collector.handover)
        self._left_over: tuple[HostSession, ...] = ()  # another launcher's spares, not stopped yet
        self._cleared: frozenset[str] = frozenset()  # of those, the ones that were stopped

    def rejoin(self) -> None:
        """Resume where another launcher stopped, once the hosts are reconnected."""
        state = self._context.state
        self._left_over = tuple(one for one in self._hosts.aside if one.name not in state.departed)
        lost = self._lost(self._hosts.layout)
        self.is_mending = bool(lost) and was_starting_again(self._context.events)

    def can_help(self) -> bool:
        """Return whether the run may continue without its lost hosts."""
        layout = self._hosts.layout
        return bool(self._spares(layout, ()) or self._is_enough(layout, len(self._lost(layout))))

    def problem(self, session: HostSession) -> str:
        """Return the code of the error that ruled out a spare; empty for other hosts."""
        failed = (e for e in self._context.events if isinstance(e, ev.HostFailed))
        codes = [event.code for event in failed if event.host == session.name]
        return codes[-1] if codes and session in self._hosts.aside else ""

    async def fill(self) -> int | None:
        """Settle on a layout without lost hosts, and return the number of the next attempt.

        Returns None when there is no such layout. Raises HostError.
        """
        if not self._lost(self._hosts.layout):
            return self._context.state.attempt + 1
        self.is_mending = True
        draft = await self._mend()
        if draft is not None:
            self._commit(draft)
        self.is_mending = False
        return None if draft is None else draft.attempt

    async def _mend(self) -> _Draft | None:
        await self._clear()
        draft = _Draft(self._hosts.layout, self._context.state.attempt + 1)
        await self._collector.pull(final=False)
        while lost := self._lost(draft.layout):
            if waiting := self._spares(draft.layout, draft.tried):
                draft = await self._try_spare(draft, lost[0], waiting[0])
            elif draft.shared:
                first, *others = draft.shared
                draft = replace(draft, shared=tuple(others))
                draft = await self._try_spare(draft, lost[0], first, only_idle=False)
            elif self._is_enough(draft.layout, 1):
                draft = self._without(draft, lost[0])
            else:
                return None
        if any(isinstance(event, ev.NodesReduced) for event in draft.events):
            await self._share(draft.layout)
        return draft

    # -- what there is

    def _lost(self, layout: Layout) -> list[Node]:
        return [node for node in layout.nodes if node.host.name in self._context.state.lost]

    def _is_enough(self, layout: Layout, fewer: int) -> bool:
        least = self._context.request.min_nodes
        return least is not None and layout.num_nodes - fewer >= least

    def _spares(self, layout: Layout, tried: Collection[str]) -> tuple[Host, ...]:
        state = self._context.state
        usable = self._cleared | {session.name for session in self._left_over}
        aside = {session.name for session in self._hosts.aside} - usable
        never = {*tried, *state.departed, *state.lost, *aside}
        return spares.spares(self._context.request.hosts, layout, never)

    async def _clear(self) -> None:
        """Stop what another launcher started on spares, so that they can be used."""
        for session in self._left_over:
            why = StopReason.SPARE_LEFT_OVER
            await shutdown.stop(self._context, [session], why, grace=0.0)
            if session.lost is None:
                self._cleared |= {session.name}
        self._left_over = ()

    # -- with a spare, or without a host

    async def _try_spare(
        self, draft: _Draft, node: Node, host: Host, only_idle: bool = True
    ) -> _Draft:
        """Return the draft with a spare in the place of a node.

        When the spare cannot be used, return the draft with the next attempt's number: logs of its
        setup have the old one.
        """
        draft = replace(draft, tried=(*draft.tried, host.name))
        session = await self._fresh(host)
        try:
            layout = await self._setup.prepare(
                session, node, draft.layout, draft.attempt, only_idle
            )
        except spares.UsedOutside:
            await self._hosts.dismiss(session)
            return replace(draft, shared=(*draft.shared, host))
        except LauncherError as error:
            await self._reject(session, error)
            return replace(draft, attempt=draft.attempt + 1)
        lost = node.host.name
        replaced = ev.NodeReplaced(
            time.time(), lost, host.name, node.node_rank, self._context.state.lost[lost].reason
        )
        return replace(draft, layout=layout, events=(*draft.events, replaced))

    async def _fresh(self, host: Host) -> HostSession:
        for former in self._hosts.aside:
            if former.name == host.name:
                await self._hosts.dismiss(former)
        self._cleared -= {host.name}
        session = self._hosts.new(host)
        self._hosts.put_aside(session)
        return session

    async def _reject(self, session: HostSession, error: LauncherError) -> None:
        """Record why a spare was ruled out, and forget it, unless something was started there: then
        it stays aside, for the receipt."""
        code, message = error.code, getattr(error, "message", str(error))
        self._context.add(ev.HostFailed(time.time(), session.name, code, message, error.hint))
        if session.is_supervised:
            await shutdown.stop(self._context, [session], StopReason.SPARE_UNFIT)
        else:
            await self._hosts.dismiss(session)

    def _without(self, draft: _Draft, node: Node) -> _Draft:
        lost = node.host.name
        layout = spares.without(draft.layout, lost)
        reason = self._context.state.lost[lost].reason
        reduced = ev.NodesReduced(time.time(), lost, layout.num_nodes, layout.world_size, reason)
        return replace(draft, layout=layout, events=(*draft.events, reduced))

    async def _share(self, layout: Layout) -> None:
        """Give every host the outputs of the others, since ranks have moved.

        Raises HostError: a rank without its checkpoint would start from nothing.
        """
        for node in layout.nodes:
            session = self._hosts.find(node.host.name)
            assert session is not None, "every host of a layout has a session"
            await self._setup.give_outputs(session, node)

    # -- done

    def _commit(self, draft: _Draft) -> None:
        """Take the new layout, here and for every later launcher."""
        self._hosts.settle(draft.layout)
        self._context.event_log.note("run.json", self._context.describe(draft.layout))
        for event in draft.events:
            self._context.add(event)
        with suppress(OSError):  # a full disk
            away = [one.name for one in self._hosts.aside if one.agent.closed.done()]
            cleanup.remember(self._context.name, away)
