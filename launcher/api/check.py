"""Check hosts before a run: findings with stable codes, and a fix for each."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ..fleet import last_check
from ..fleet.findings import ERROR, OK, WARNING, Finding, problems, suggested
from ..fleet.findings.group import gpus_text
from ..fleet.findings.pair import rate_text
from ..fleet.inventory_file import write_interfaces
from ..fleet.last_check import LastCheck
from ..fleet.sandbox import sandbox_of
from ..jobs.environments import images_of, with_python
from ..spec.environments import Environment
from ..spec.model import Host, Inventory, Job

if TYPE_CHECKING:
    from ..fleet.check.checker import ImageOfJob
    from ..fleet.check.checker import Report as Report
    from ..fleet.findings.survey import PairTest as PairTest
    from ..fleet.findings.survey import Survey as Survey
    from .host_requests import AskPassphrase

__all__ = [
    "ERROR",
    "OK",
    "WARNING",
    "Finding",
    "LastCheck",
    "check_hosts",
    "gpus_text",
    "keep_check",
    "known_check",
    "problems",
    "rate_text",
    "sandbox_of",
    "with_smoke",
    "write_suggested",
]


async def check_hosts(
    inventory: Inventory,
    hosts: Sequence[Host],
    job: Job | None = None,
    *,
    fix: bool = False,
    pairs: bool = True,
    ask_passphrase: AskPassphrase | None = None,
    progress: Callable[[str], None] = lambda doing: None,
) -> tuple[Report, list[str]]:
    """Check each host and, with ``pairs``, the network between them.

    With a job, also check whether it fits and finds what it needs. Return a report, and what ``fix``
    repaired. An unreachable host is a finding, not an exception. Raises InputError for a file of an
    image that cannot be read.
    """
    from ..fleet.check.checker import Visitor, check

    images = await asyncio.to_thread(_known_images, job) if job else ()
    hosts = with_python(hosts, job)
    async with Visitor(inventory, hosts, ask_passphrase, progress) as visitor:
        return await check(visitor, job, fix, pairs, images)


def _known_images(job: Job) -> list[tuple[Environment, ImageOfJob]]:
    """Return what is known here of the images of a job and its roles. Raises InputError."""
    return [(wanted, _known_image(wanted)) for wanted in images_of(job)]


def _known_image(wanted: Environment) -> ImageOfJob:
    """Return what is known here of an image. Raises InputError."""
    from ..fleet.check.checker import ImageOfJob
    from ..runner.files import build_context
    from ..runner.images.archives import of_path

    if wanted.is_built:
        if wanted.pinned:
            return ImageOfJob(wanted.pinned)
        listing = build_context.listed(wanted)
        known = build_context.built(listing.identity, build_context.key_of(listing))
        return ImageOfJob(known.id, known.machine) if known else ImageOfJob("", is_unbuilt=True)
    file = of_path(wanted.image)
    return ImageOfJob(file.id, file.machine) if file else ImageOfJob(wanted.pinned)


def with_smoke(
    report: Report, job: Job | None, inventory: Inventory, hosts: Sequence[str]
) -> Report:
    """Run an all-reduce over hosts, as an ordinary run; return the report with its finding."""
    from ..runner.smoke import smoke

    started = time.monotonic()
    finding = smoke(job, inventory, hosts)
    took = report.seconds + time.monotonic() - started
    return replace(report, findings=(*report.findings, finding), seconds=took)


def write_suggested(report: Report, place: str | os.PathLike[str]) -> tuple[Report, list[str]]:
    """Write the interfaces that a report suggests into the inventory's file.

    Return the report without those findings, and what was written. Raises InputError.
    """
    wanted = suggested(report.findings)
    if not wanted:
        return report, []
    write_interfaces(place, wanted)
    left = tuple(f for f in report.findings if not suggested([f]))
    done = [f"{name}: interface: {value} in {place}" for name, value in wanted.items()]
    return replace(report, findings=left), done


def keep_check(inventory: Inventory, hosts: Sequence[Host], report: Report) -> None:
    """Keep what was found on hosts of an inventory, for :func:`known_check`."""
    names = tuple(host.name for host in hosts)
    last_check.keep(inventory, LastCheck(time.time(), names, problems(report.findings)))


def known_check(inventory: Inventory) -> LastCheck | None:
    """Return what the latest ``launcher check`` of an inventory found here; None without one."""
    return last_check.of(inventory)
