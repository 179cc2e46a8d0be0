"""Prepares a spare to replace a lost host: everything but the start of its processes."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ..fleet.findings import preflight
from ..jobs import planner
from ..records import events as ev
from ..records.reasons import PassedOver
from ..spec.errors import HostError
from ..spec.model import Layout, Node
from . import connect
from .context import RunContext
from .environments import Environments, with_built
from .files import code_sync, outputs
from .files.choice import Choice
from .files.seeding import Handover
from .host_session import HostSession
from .host_set import HostSet
from .launch import Launch
from .policy import spares
from .policy.passed_over import passed_over
from .rendezvous import meet
from .requirements import Requirements


async def give_data(
    context: RunContext, session: HostSession, others: Sequence[HostSession]
) -> None:
    """Give a host that joins later the data sets of the ``others``. Raises HostError, InputError."""
    if context.job.data:
        from .data import run_data  # many runs have none

        await run_data.give_spare(context, session, others)


class SpareSetup:
    """Gives a spare what the other hosts have: code, a supervisor, outputs and the job's setup."""

    def __init__(self, context: RunContext, hosts: HostSet, handover: Handover) -> None:
        self._context, self._hosts, self._handover = context, hosts, handover

    async def prepare(
        self, session: HostSession, node: Node, layout: Layout, attempt: int, only_idle: bool
    ) -> Layout:
        """Prepare a spare; return the layout with it in the place of ``node``. With ``only_idle`` it
        shares no GPU with programs outside launcher. Raises LauncherError."""
        job = self._context.job
        await connect.open_one(session)
        fitting = spares.in_place_of(node, session.host, session.facts, job, only_idle)
        for event in passed_over(job, fitting, session.facts, time.time()):
            if event.reason is PassedOver.SHARED:
                self._context.add(event)
        layout = spares.with_node(layout, fitting)
        together = [other for other, _ in self._living(layout) if not other.agent.closed.done()]
        facts = {other.name: other.facts for other in together}
        preflight.require_machines([other.host for other in together], facts)
        if self._context.request.check:
            preflight.require([session.host], facts)
        await self.give_code(session, layout)
        others = [other for other in together if other is not session]
        await give_data(self._context, session, others)
        await Environments(self._context).give([session], layout)
        layout = with_built(layout, [session])
        launch = Launch(self._context, [session], layout, attempt)
        await launch.supervise(warm=True)
        await self.give_outputs(session, fitting)
        await launch.setup()
        await self._check(session, layout)
        await meet(self._context.job, [other for other, _ in self._living(layout)])
        return layout

    def _living(self, layout: Layout) -> list[tuple[HostSession, Node]]:
        """Return the hosts of a layout that are not lost, with their nodes."""
        lost = self._context.state.lost
        living = [node for node in layout.nodes if node.host.name not in lost]
        found = ((self._hosts.find(node.host.name), node) for node in living)
        return [(session, node) for session, node in found if session is not None]

    async def give_code(self, session: HostSession, layout: Layout) -> None:
        """Give a host the version of the code that the other hosts have. Raises HostError."""
        if other := self._context.request.code_of:
            await code_sync.give_code_of(self._context, session, other)
            return
        events = self._context.events
        synced = {e.host: e.version for e in events if isinstance(e, ev.CodeSynced)}
        versions = [synced[n.host.name] for n in layout.nodes if n.host.name in synced]
        versions += synced.values()
        if not versions:
            raise HostError(
                session.name,
                "this machine does not know the run's code version",
                "replace hosts from the machine that started the run",
            )
        living = self._living(layout)
        others = [(other, node.root) for other, node in living if other is not session]
        await code_sync.give_same_code(self._context, session, versions[0], others)

    async def give_outputs(self, session: HostSession, node: Node) -> int:
        """Give a host the outputs of all others that it does not have, and of the run that this one
        continues; return how many. Raises HostError."""
        run, paths = self._context.name, self._context.job.output_paths
        everybody = (*self._hosts.active, *self._hosts.aside)
        others = [other.name for other in everybody if other is not session]
        there = await outputs.listed(session.agent, run, Choice(paths))
        has = {path: (size, time) for path, size, time in there.files}
        folder = planner.run_dir(node.root, run)
        living = [other.name for other in self._hosts.active if other.lost is None]
        return await self._handover.give(session, others, folder, paths, has, living)

    async def _check(self, session: HostSession, layout: Layout) -> None:
        if self._context.request.check:
            key, missing = session.lacks
            if missing:
                is_silent = missing[0] in session.facts.silent_paths
                why = "does not answer" if is_silent else "is missing there"
                raise HostError(session.name, f"{key}: {missing[0]} {why}")
            requirements = Requirements([session], layout, self._context.job)
            await requirements.start()
            await requirements.check()
