"""Connects to as many hosts as a job needs, and decides which host runs what.

The next host of the inventory replaces one that does not answer, unless the user named the hosts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from ..fleet.findings import preflight
from ..jobs import planner
from ..jobs.layout import make_layout
from ..spec import nodeset
from ..spec.errors import CheckFailed, HostError, PlanError
from ..spec.model import Host, Job, Layout
from ..transport import rsync
from .context import RunContext
from .host_session import HostSession
from .host_set import HostSet
from .opening_hosts import Opening
from .policy.opening import how_many
from .policy.passed_over import passed_over


async def connect(context: RunContext, hosts: HostSet) -> None:
    """Open hosts until there is a layout, and settle on it.

    Raises PlanError, or the first HostError when hosts are missing because of it. What was opened
    until then stays in the set, which closes it.
    """
    opening = Opening(context, hosts, open_one)
    try:
        layout = await _lay_out(context, hosts, opening)
        await opening.leave()
    except BaseException:
        await opening.close()
        raise
    hosts.settle(layout)
    report_passed_over(context, hosts)
    await asyncio.gather(*(hosts.dismiss(unneeded) for unneeded in hosts.aside))


async def _lay_out(context: RunContext, hosts: HostSet, opening: Opening) -> Layout:
    """Open hosts until there is a layout, and return it."""
    job, waiting = context.job, list(context.request.hosts)
    while True:
        able, _ = _with_needs(context, hosts.active)
        wanted = how_many(job, len(able), len(waiting))
        batch, waiting = waiting[:wanted], waiting[wanted:]
        opening.begin(batch)
        await (opening.wait() if _needs_all(job) else opening.settle(bool(waiting)))
        if opening.failed and not opening.silent and (job.hosts or not waiting):
            _raise_if_needed(job, hosts.active, opening.failed)
        able, lacking = _with_needs(context, hosts.active)
        if lacking and _needs_all(job):
            raise _lacks(job, able, lacking)
        try:
            return decide(context, able, only_idle=bool(waiting or opening.silent))
        except PlanError:
            if waiting:
                continue
            if opening.silent:
                await opening.wait()
                continue
            if lacking:
                raise _lacks(job, able, lacking) from None
            if opening.failed:
                raise opening.failed[0] from None
            raise


def report_passed_over(context: RunContext, hosts: HostSet) -> None:
    """Record which GPUs of its hosts the run has not taken, and why; and those that it shares."""
    for node, session in zip(hosts.layout.nodes, hosts.active, strict=True):
        for event in passed_over(context.job, node, session.facts, time.time()):
            context.add(event)


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


def decide(context: RunContext, sessions: Sequence[HostSession], only_idle: bool) -> Layout:
    """Return the layout of the run on hosts that are open. Raises PlanError."""
    job = context.job
    facts = {session.name: session.facts for session in sessions}
    order = [host.name for host in context.request.hosts]
    hosts = sorted((one.host for one in sessions), key=lambda host: order.index(host.name))
    layout = make_layout(job, hosts, facts, context.name, only_idle)
    if layout.num_nodes > 1:
        planner.shared_versions(job, [facts[node.host.name] for node in layout.nodes])
    planner.plan(job, layout, planner.NOWHERE, "")  # fail early on unknown placeholders
    return layout
