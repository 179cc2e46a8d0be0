"""Connects to as many hosts as a job needs, and decides which host runs what.

The next host of the inventory replaces one that does not answer, unless the user named the hosts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from ..fleet.findings import preflight
from ..jobs import planner
from ..jobs.environments import needed_on
from ..jobs.gpus import usable
from ..jobs.layout import make_layout, on_fewer
from ..spec import nodeset
from ..spec.errors import (
    CheckFailed,
    ConnectionLost,
    GpusInUse,
    HostError,
    PlanError,
    Silent,
)
from ..spec.model import Host, Job, Layout
from ..transport import rsync
from .context import RunContext
from .host_session import HostSession
from .host_set import HostSet
from .opening_hosts import Opening
from .policy import environments, turn
from .policy.host_count import how_many
from .policy.passed_over import passed_over
from .waiting.place import Place

#: How often a run tries to get into the queue, where the connection to a host breaks meanwhile.
MOST_TRIES = 3


async def connect(context: RunContext, hosts: HostSet, place: Place) -> bool:
    """Open hosts until there is a layout, and settle on it; return False if the run has to wait for its
    turn on those that are open.

    Raises PlanError, or the first HostError when hosts are missing because of it. What was opened
    until then stays in the set, which closes it.
    """
    search = _Search(context, hosts, _in_order(context))
    try:
        ours, tries = None, MOST_TRIES
        while tries:
            try:
                ours, tries = await _take_place(context, hosts, place, search), 0
            except ConnectionLost as lost:
                tries -= 1
                if not tries or isinstance(lost, Silent) or not search.has_opened(lost.host):
                    raise
                await place.close()
                await search.open_again(lost.host)
        await search.opening.leave()
    except BaseException:
        await search.opening.close()
        raise
    if ours is None:
        return False
    await settle(context, hosts, ours)
    return True


async def _take_place(
    context: RunContext, hosts: HostSet, place: Place, search: _Search
) -> Layout | None:
    """Take a place in the queue. Return the layout that the run may take now; None if it has to wait.
    Raises ConnectionLost where the connection to a host breaks meanwhile."""
    layout = await search.layout(place.can_wait)
    ours = await _turn(context, hosts, place, layout) if layout else None
    if ours is None and (place.can_wait or context.job.elastic):
        await _queue_up(context, place, await search.all_able(), search.order)
        ours = await _turn_on_some(hosts, place, bool(context.job.elastic))
    if ours is None and not place.can_wait:
        raise place.refusal()
    return ours


def _in_order(context: RunContext) -> Sequence[Host]:
    """Return the hosts of a request, those first that have its data, unless it needs them all."""
    job, hosts = context.job, context.request.hosts
    if not job.data or _needs_all(job) or (job.num_nodes or 0) >= len(hosts):
        return hosts
    from .data import whereabouts  # many runs have none

    return whereabouts.nearest_first(hosts, job.data)


async def settle(context: RunContext, hosts: HostSet, layout: Layout) -> None:
    """Let the hosts of a layout take part, and dismiss the others."""
    hosts.settle(layout)
    report_passed_over(context, hosts)
    await asyncio.gather(*(hosts.dismiss(unneeded) for unneeded in hosts.aside))


class _Search:
    """Opens as many hosts as are needed; the next ones replace those that do not answer."""

    def __init__(self, context: RunContext, hosts: HostSet, order: Sequence[Host]) -> None:
        self.opening = Opening(context, hosts, open_one)
        self.order = order
        self._context, self._hosts = context, hosts
        self._waiting = list(order)

    async def layout(self, may_wait: bool) -> Layout | None:
        """Return the first layout on free GPUs; None if all are open, and it would fit if these were."""
        job, opening = self._context.job, self.opening
        while True:
            able, _ = _with_needs(self._context, self._hosts.active)
            self._open(how_many(job, len(able), len(self._waiting)))
            await (opening.wait() if _needs_all(job) else opening.settle(bool(self._waiting)))
            if opening.failed and not opening.silent and (job.hosts or not self._waiting):
                _raise_if_needed(job, self._hosts.active, opening.failed)
            able, lacking = _with_needs(self._context, self._hosts.active)
            if lacking and _needs_all(job):
                raise _lacks(able, lacking)
            try:
                is_early = bool(self._waiting or opening.silent)
                return decide(self._context, able, is_early, self.order)
            except PlanError as error:
                if self._waiting:
                    continue
                if opening.silent:
                    await opening.wait()
                    continue
                if may_wait and isinstance(error, GpusInUse):
                    return None
                self._complain(able, lacking)
                raise

    def _complain(self, able: Sequence[HostSession], lacking: Sequence[HostSession]) -> None:
        """Raise the error that explains why hosts are missing, if there is one."""
        if lacking:
            raise _lacks(able, lacking) from None
        if missing := _without_environments(self._context, able):
            raise missing from None
        if self.opening.failed:
            raise environments.first(self.opening.failed) from None

    async def all_able(self) -> list[HostSession]:
        """Return all hosts that the run may use, and open those that are not open yet."""
        self._open(len(self._waiting))
        await self.opening.settle(False)
        return _with_needs(self._context, self._hosts.active)[0]

    def has_opened(self, name: str) -> bool:
        """Return whether a host has answered."""
        return name in [session.name for session in self._hosts.active]

    async def open_again(self, name: str) -> None:
        """Connect anew to a host that had answered; if it does not now, it counts as silent."""
        for session in [one for one in self._hosts.active if one.name == name]:
            await self._hosts.dismiss(session)
        self.opening.begin([host for host in self.order if host.name == name])

    def _open(self, count: int) -> None:
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        self.opening.begin(batch)


async def _turn(context: RunContext, hosts: HostSet, place: Place, layout: Layout) -> Layout | None:
    """Take a place on the hosts of a layout. Return it if it is this run's turn there, else None."""
    shares = turn.shares_of(layout)
    names = [node.host.name for node in layout.nodes if node.gpus]
    if not shares:
        return layout
    place.fixed = layout if turn.is_fixed(context.job) else None
    await place.enter([one for one in hosts.active if one.name in names], shares)
    return layout if await place.may_begin() else None


async def _turn_on_some(hosts: HostSet, place: Place, elastic: bool) -> Layout | None:
    """Return the layout that the run may take now on some of the hosts where it has a place, which it
    keeps there alone if it is elastic; None if it has to wait."""
    layout = await place.layout_now()
    if layout is not None and elastic:
        names = [node.host.name for node in layout.nodes if node.gpus]
        own = [one for one in hosts.active if one.name in names]
        await place.enter(own, turn.shares_of(layout))
    return layout


async def _queue_up(
    context: RunContext, place: Place, able: Sequence[HostSession], hosts: Sequence[Host]
) -> None:
    """Take a place on all hosts that have GPUs for the run, or on the only ones that would do."""
    model = context.job.resources.gpu_model
    order = [host.name for host in hosts]
    fit = [one for one in able if usable(one.host, one.facts, (), model).indices]
    fit.sort(key=lambda one: order.index(one.name))
    facts = {one.name: one.facts for one in fit}
    if turn.is_fixed(context.job):
        able_facts = {one.name: one.facts for one in able}
        ordered = sorted((one.host for one in able), key=lambda host: order.index(host.name))
        place.fixed = layout = turn.idle_layout(context.job, ordered, able_facts, context.name)
        if context.job.resources.gpu_ids and not turn.can_be_named(layout):
            raise GpusInUse(
                "a MIG instance that --gpu-ids names is in use, and no run can wait for it",
                "start it again later, or leave the choice of GPUs to launcher: --gpus N",
            )
        names = [node.host.name for node in layout.nodes if node.gpus]
        own = [one for one in able if one.name in names]
        await place.enter(own, turn.shares_of(layout))
        return
    shares, least = turn.shares(context.job, [one.host for one in fit], facts), context.job.elastic
    if least and len(set(shares)) == 1:
        await place.enter(fit, shares[:least], most=len(shares))
    else:
        await place.enter(fit, shares)


def report_passed_over(context: RunContext, hosts: HostSet) -> None:
    """Record which GPUs of its hosts the run has not taken, and why; and those that it shares."""
    for node, session in zip(hosts.layout.nodes, hosts.active, strict=True):
        for event in passed_over(context.job, node, session.facts, time.time()):
            context.add(event)


def _raise_if_needed(
    job: Job, sessions: Sequence[HostSession], failed: Sequence[HostError]
) -> None:
    if _needs_all(job) or not sessions:
        raise environments.first(failed)


def _needs_all(job: Job) -> bool:
    """Return whether the job is to run on every host that the user named."""
    compares = job.resources.gpus or job.roles
    return bool(job.hosts and job.num_nodes is None and not compares)


def _with_needs(
    context: RunContext, sessions: Sequence[HostSession]
) -> tuple[list[HostSession], list[HostSession]]:
    """Return the hosts that have every path that the job needs, and the others."""
    if not context.request.check:
        return list(sessions), []
    lacking = [one for one in sessions if one.lacks[1]]
    return [one for one in sessions if one not in lacking], lacking


def _lacks(able: Sequence[HostSession], lacking: Sequence[HostSession]) -> CheckFailed:
    """Return the error for a job whose data too few hosts have: its data sets, or else its needs."""
    key = min(one.lacks[0] for one in lacking)
    named = [one for one in lacking if one.lacks[0] == key]
    paths = dict.fromkeys(path for one in named for path in one.lacks[1])
    without = nodeset.fold(one.name for one in named)
    is_data = key == "data"
    anyway = "" if is_data else "; --no-check starts anyway"
    for one in named:
        if silent := [path for path in one.lacks[1] if path in one.facts.silent_paths]:
            return CheckFailed(
                f"{key}: {silent[0]} does not answer on {one.name}",
                f"is the server of its file system there? On {one.name}, umount -f -l it, and mount "
                f"it again; or --hosts with others{anyway}",
            )
    if able:
        having = nodeset.fold(one.name for one in able)
        return CheckFailed(
            f"{key}: {', '.join(paths)} is on {having} only, and not on {without}",
            f"--hosts {having}, or {'mount it on' if is_data else 'copy it to'} the others{anyway}",
        )
    return CheckFailed(
        f"{key}: {', '.join(paths)} is missing on {without}, or may not be read there",
        f"{'mount' if is_data else 'copy'} it there, or correct {key}: in the job{anyway}",
    )


def _without_environments(context: RunContext, able: Sequence[HostSession]) -> HostError | None:
    """Return the error for hosts that lack environments of roles, if the job would fit with these."""
    job = context.job
    lacking = {
        session.name: {
            role: session.no_python[environment.key]
            for environment, roles in needed_on(job, session.host).items()
            if environment.key in session.no_python
            for role in roles
        }
        for session in able
    }
    error = environments.of_roles(lacking)
    if error is None:
        return None
    facts = {
        one.name: replace(
            one.facts, pythons={**one.facts.pythons, **dict.fromkeys(one.no_python, "")}
        )
        for one in able
    }
    try:
        make_layout(job, [one.host for one in able], facts, context.name)
    except PlanError:
        return None  # something else is missing as well
    return error


async def open_more(context: RunContext, hosts: HostSet, more: Sequence[Host]) -> list[HostSession]:
    """Open hosts that the job may use, beside those that it has; return those that answer and fit."""
    opening = Opening(context, hosts, open_one)
    opening.begin(more)
    try:
        await opening.settle(False)
        await opening.leave()
    finally:
        await opening.close()
    names = {host.name for host in more}
    opened = [one for one in hosts.active if one.name in names]
    if context.request.check:
        opened = [one for one in opened if _is_fit(one)]
    return _with_needs(context, opened)[0]


def _is_fit(session: HostSession) -> bool:
    try:
        preflight.require([session.host], {session.name: session.facts})
    except CheckFailed:
        return False
    return True


async def open_one(session: HostSession) -> None:
    """Connect to a host, measure it, and make sure that it has rsync. Raises HostError."""
    await session.open()
    rsync.require_there(session.name, session.facts.rsync)


def decide(
    context: RunContext,
    sessions: Sequence[HostSession],
    only_idle: bool,
    order: Sequence[Host] | None = None,
) -> Layout:
    """Return the layout of the run on hosts that are open: of an elastic one on as many as have free
    GPUs, unless it is to be on idle ones. Raises PlanError.

    ``order`` says which hosts are taken first; their ranks are in the order of the request.
    """
    job = context.job
    while True:
        try:
            return _decide(context, job, sessions, only_idle, order)
        except GpusInUse:
            if only_idle or job.elastic is None or job.num_nodes in (None, job.elastic):
                raise
        job = on_fewer(job, job.num_nodes - 1)


def _decide(
    context: RunContext,
    job: Job,
    sessions: Sequence[HostSession],
    only_idle: bool,
    order: Sequence[Host] | None,
) -> Layout:
    facts = {session.name: session.facts for session in sessions}
    names = [host.name for host in context.request.hosts]
    hosts = sorted((one.host for one in sessions), key=lambda host: names.index(host.name))
    first = [host.name for host in order or ()]
    if first and first != names:
        nearest = sorted(hosts, key=lambda host: first.index(host.name))
        taken = make_layout(job, nearest, facts, context.name, only_idle)
        of_it = {node.host.name for node in taken.nodes}
        hosts = [host for host in hosts if host.name in of_it]
    layout = make_layout(job, hosts, facts, context.name, only_idle)
    if layout.num_nodes > 1:
        planner.shared_versions(job, [facts[node.host.name] for node in layout.nodes])
    planner.plan(job, layout, planner.NOWHERE, "")  # fail early on unknown placeholders
    return layout
