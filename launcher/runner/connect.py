"""Connects to as many hosts as a job needs, and decides who does what.

A host that does not answer is replaced by the next one of the inventory, unless the user named the
hosts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from ..jobs import planner
from ..records import events as ev
from ..spec.errors import HostError, PlanError
from ..spec.model import Host, Job, Layout
from ..transport import rsync
from .host_session import Link

MakeLink = Callable[[Host], Link]


async def connect(
    job: Job,
    hosts: tuple[Host, ...],
    make: MakeLink,
    run_id: str,
    links: list[Link],
    emit: Callable[[ev.Event], None],
) -> Layout:
    """The layout of the run; ``links`` then holds the hosts of it, in the order of their nodes.

    Raises PlanError, or the first HostError when hosts are missing because of it. ``links`` holds
    whatever was opened, in any case.
    """
    waiting = list(hosts)
    failed: list[HostError] = []
    while True:
        wanted = _how_many(job, len(links), len(waiting))
        batch, waiting = waiting[:wanted], waiting[wanted:]
        failed += await _open(batch, make, links, emit)
        if failed and (job.hosts or not waiting):
            _raise_if_needed(job, links, failed)
        try:
            layout = _decide(job, links, run_id)
        except PlanError:
            if waiting:
                continue
            if failed:
                raise failed[0] from None
            raise
        await _release(links, layout)
        return layout


def _how_many(job: Job, open_hosts: int, waiting: int) -> int:
    """All hosts when their GPUs have to be compared, else just as many as are still missing."""
    compares = bool(job.roles) or (bool(job.resources.gpus) and job.num_nodes is None)
    if compares or (job.hosts and job.num_nodes is None):
        return waiting
    return max(1, (job.num_nodes or 1) - open_hosts)


def _raise_if_needed(job: Job, links: list[Link], failed: list[HostError]) -> None:
    compares = job.resources.gpus or job.roles
    needs_all = job.hosts and job.num_nodes is None and not compares
    if needs_all or not links:
        raise failed[0]


async def _open(
    hosts: list[Host], make: MakeLink, links: list[Link], emit: Callable[[ev.Event], None]
) -> list[HostError]:
    opened = [make(host) for host in hosts]
    results = await asyncio.gather(*(open_one(link) for link in opened), return_exceptions=True)
    failed = []
    for link, result in zip(opened, results, strict=True):
        if isinstance(result, HostError):
            failed.append(result)
            emit(ev.HostFailed(time.time(), link.name, result.code, result.message, result.hint))
            await link.close()
        elif isinstance(result, BaseException):
            await link.close()
            raise result
        else:
            links.append(link)
    return failed


async def open_one(link: Link) -> None:
    """Connects, measures, and looks whether files can be copied. Raises HostError."""
    await link.open()
    rsync.require_there(link.name, link.facts.rsync)


def _decide(job: Job, links: list[Link], run_id: str) -> Layout:
    facts = {link.name: link.facts for link in links}
    layout = planner.layout(job, [link.host for link in links], facts, run_id)
    planner.plan(job, layout, planner.NOWHERE, "")  # what cannot be filled in is told at once
    return layout


async def _release(links: list[Link], layout: Layout) -> None:
    """Lets go of hosts that were asked and are not needed."""
    chosen = [node.host.name for node in layout.nodes]
    spare = [link for link in links if link.name not in chosen]
    links[:] = sorted(
        (link for link in links if link.name in chosen), key=lambda link: chosen.index(link.name)
    )
    await asyncio.gather(*(link.close() for link in spare))
