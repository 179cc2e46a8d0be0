"""Connects to as many hosts as a job needs, and decides which host runs what.

The next host of the inventory replaces one that does not answer, unless the user named the hosts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..jobs import planner
from ..jobs.gpus import foreign, usable, users_text
from ..jobs.layout import make_layout
from ..records import events as ev
from ..records.reasons import PassedOver
from ..spec import nodeset
from ..spec.errors import CheckFailed, HostError, PlanError
from ..spec.model import Host, Job, Layout
from ..transport import rsync
from .context import RunContext
from .host_session import HostSession
from .host_set import HostSet
from .policy.opening import how_many


async def connect(context: RunContext, hosts: HostSet) -> None:
    """Open hosts until there is a layout, and settle on it.

    Raises PlanError, or the first HostError when hosts are missing because of it. What was opened
    until then stays in the set, which closes it.
    """
    job, waiting = context.job, list(context.request.hosts)
    failed: list[HostError] = []
    while True:
        able, _ = _with_needs(context, hosts.active)
        wanted = how_many(job, len(able), len(waiting))
        batch, waiting = waiting[:wanted], waiting[wanted:]
        failed += await _open(context, hosts, batch)
        if failed and (job.hosts or not waiting):
            _raise_if_needed(job, hosts.active, failed)
        able, lacking = _with_needs(context, hosts.active)
        if lacking and _needs_all(job):
            raise _lacks(job, able, lacking)
        try:
            layout = _decide(job, able, context.name, only_idle=bool(waiting))
        except PlanError:
            if waiting:
                continue
            if lacking:
                raise _lacks(job, able, lacking) from None
            if failed:
                raise failed[0] from None
            raise
        hosts.settle(layout)
        _report_left_out(context, hosts)
        await asyncio.gather(*(hosts.dismiss(unneeded) for unneeded in hosts.aside))
        return


def _report_left_out(context: RunContext, hosts: HostSet) -> None:
    """Record which GPUs of its hosts the run has not taken, and why; and those that it shares."""
    if context.job.resources.gpus == 0:
        return
    for node, session in zip(hosts.layout.nodes, hosts.active, strict=True):
        there, now = usable(session.host, session.facts), time.time()
        if there.outside:
            why = PassedOver.ENVIRONMENT
            context.add(ev.GpusPassedOver(now, session.name, there.outside, why, there.bound))
        uses = {i: one for i, one in foreign(session.facts).items() if i in there.indices}
        shared, left = set(uses) & set(node.gpus), set(uses) - set(node.gpus)
        for gpus, why in ((shared, PassedOver.SHARED), (left, PassedOver.FOREIGN)):
            if gpus:
                by = users_text(use for index in sorted(gpus) for use in uses[index])
                context.add(ev.GpusPassedOver(now, session.name, tuple(sorted(gpus)), why, by))


def _raise_if_needed(
    job: Job, sessions: Sequence[HostSession], failed: Sequence[HostError]
) -> None:
    if _needs_all(job) or not sessions:
        raise failed[0]


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
    lacking = [one for one in sessions if _missing(context.job, one)]
    return [one for one in sessions if one not in lacking], lacking


def _missing(job: Job, session: HostSession) -> list[str]:
    return [path for path in job.needs if path in session.facts.no_paths]


def _lacks(job: Job, able: Sequence[HostSession], lacking: Sequence[HostSession]) -> CheckFailed:
    """Return the error for a job whose data too few hosts have."""
    paths = dict.fromkeys(path for one in lacking for path in _missing(job, one))
    without = nodeset.fold(one.name for one in lacking)
    if able:
        having = nodeset.fold(one.name for one in able)
        return CheckFailed(
            f"needs: {', '.join(paths)} is on {having} only, and not on {without}",
            f"--hosts {having}, or copy it to the others; --no-check starts anyway",
        )
    return CheckFailed(
        f"needs: {', '.join(paths)} is missing on {without}, or may not be read there",
        "copy it there, or correct needs: in the job; --no-check starts anyway",
    )


async def _open(context: RunContext, hosts: HostSet, batch: Sequence[Host]) -> list[HostError]:
    """Open hosts side by side and let those that answer take part; return the errors of the others.

    Each stands aside while it opens, so that closing the set closes it when this is cancelled.
    """
    opening = [hosts.new(host) for host in batch]
    for session in opening:
        hosts.put_aside(session)
    results = await asyncio.gather(*(open_one(one) for one in opening), return_exceptions=True)
    failed = []
    for session, result in zip(opening, results, strict=True):
        if isinstance(result, HostError):
            failed.append(result)
            name, now = session.name, time.time()
            context.add(ev.HostFailed(now, name, result.code, result.message, result.hint))
            await hosts.dismiss(session)
        elif isinstance(result, BaseException):
            raise result
        else:
            hosts.join(session)
    return failed


async def open_one(session: HostSession) -> None:
    """Connect to a host, measure it, and make sure that it has rsync. Raises HostError."""
    await session.open()
    rsync.require_there(session.name, session.facts.rsync)


def _decide(job: Job, sessions: Sequence[HostSession], run_id: str, only_idle: bool) -> Layout:
    facts = {session.name: session.facts for session in sessions}
    layout = make_layout(job, [session.host for session in sessions], facts, run_id, only_idle)
    if layout.num_nodes > 1:
        planner.shared_versions(job, [facts[node.host.name] for node in layout.nodes])
    planner.plan(job, layout, planner.NOWHERE, "")  # fail early on unknown placeholders
    return layout
