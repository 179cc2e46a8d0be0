"""Finds other GPUs and hosts for a run when somebody was quicker with those of its plan."""

from __future__ import annotations

import asyncio

from ..records import events as ev
from ..spec.errors import PlanError
from ..spec.model import Host, Layout
from . import connect
from .context import RunContext
from .environments import Environments, with_built
from .files.collector import Collector
from .host_session import HostSession
from .host_set import HostSet
from .launch import Launch
from .spare_setup import SpareSetup, give_data


class SecondLook:
    """Measures hosts again, lays the run out on what is free now, and prepares hosts that are new."""

    def __init__(self, context: RunContext, hosts: HostSet, collector: Collector) -> None:
        self._context, self._hosts, self._collector = context, hosts, collector
        self._setup = SpareSetup(context, hosts, collector.handover)
        #: By host, the roles whose setups have run there; "" is the job's own.
        self._set_up: dict[str, set[str]] = {}

    async def take(self, attempt: int) -> None:
        """Settle on hosts and GPUs that are free now, for this attempt.

        Hosts of the run come first, since they have its code. Raises PlanError, HostError.
        """
        known = [one for one in self._hosts.touched if one.lost is None]
        await asyncio.gather(*(one.look_again() for one in known))
        others = self._others()
        try:
            layout = connect.decide(self._context, known, only_idle=bool(others))
        except PlanError:
            opened = await connect.open_more(self._context, self._hosts, others)
            layout = connect.decide(self._context, [*known, *opened], only_idle=False)
        await self._settle(layout, attempt)

    def _others(self) -> list[Host]:
        """Return the hosts that the run may use and has not touched."""
        names = {one.name for one in self._hosts.touched}
        return [host for host in self._context.request.hosts if host.name not in names]

    async def _settle(self, layout: Layout, attempt: int) -> None:
        context, hosts = self._context, self._hosts
        for node in hosts.layout.nodes:
            roles = {task.role for task in node.tasks}
            self._set_up.setdefault(node.host.name, {""}).update(roles)
        hosts.settle(layout)
        new = [one for one in hosts.active if not one.is_supervised]
        await asyncio.gather(*(hosts.dismiss(one) for one in hosts.aside if not one.is_supervised))
        connect.report_passed_over(context, hosts)
        await asyncio.gather(*(self._setup.give_code(one, layout) for one in new))
        others = [one for one in hosts.active if one not in new]
        for one in new:
            await give_data(context, one, others)
        # Roles may have changed places, and nothing may start without what its role runs in.
        await Environments(context).give(hosts.active, layout)
        layout = with_built(layout, hosts.active)
        hosts.settle(layout)
        context.event_log.note("run.json", context.describe(layout))
        await self._prepare(new, layout, attempt)

    async def _prepare(self, new: list[HostSession], layout: Layout, attempt: int) -> None:
        """Give hosts that are new to the run what the others have, and run the setups of roles that are
        new to their hosts."""
        roles = {node.host.name: {task.role for task in node.tasks} for node in layout.nodes}
        moved = [
            one
            for one in self._hosts.active
            if one not in new and roles[one.name] - self._set_up.get(one.name, set())
        ]
        launch = Launch(self._context, [*new, *moved], layout, attempt)
        await launch.supervise(warm=True)
        if any(isinstance(event, ev.AllStarted) for event in self._context.events):
            await self._collector.pull(final=False)
            nodes = {node.host.name: node for node in layout.nodes}
            await asyncio.gather(
                *(self._setup.give_outputs(one, nodes[one.name]) for one in self._hosts.active)
            )
        await launch.setup(self._set_up)
