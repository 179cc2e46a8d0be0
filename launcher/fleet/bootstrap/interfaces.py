"""Find the interfaces by which hosts reach each other, and write them into the inventory."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from ...spec.errors import InputError
from ...spec.model import Host, Job
from ..check.checker import Visitor
from ..findings import suggested
from ..findings.survey import Questions
from ..inventory_file import write_interfaces
from . import plan
from .request import BootstrapRequest


def interfaces(
    request: BootstrapRequest, hosts: Sequence[Host]
) -> tuple[dict[str, plan.Change], str]:
    """Write the interfaces that hosts need; return the changes, and why they failed or "".

    A single host without an ``interface:`` has nothing to choose and is not asked.
    """
    if len(hosts) < 2 and not any(host.interface for host in hosts):
        return {}, ""
    wanted = asyncio.run(_wanted(request, hosts))
    wrong = ""
    if wanted and not request.dry_run:
        try:
            write_interfaces(request.inventory_file, wanted)
        except InputError as error:
            wrong = f"{error}; add by hand: {error.hint}"
    return {host: _change(name, request.inventory_file) for host, name in wanted.items()}, wrong


async def _wanted(request: BootstrapRequest, hosts: Sequence[Host]) -> dict[str, str]:
    async with Visitor(request.inventory, hosts, request.ask_passphrase) as visitor:
        await visitor.survey(Questions())
        await visitor.pairs(Job.master_port, bandwidth=False)
        return suggested(visitor.findings)


def _change(interface: str, place: str) -> plan.Change:
    return plan.Change("interface", f"write interface: {interface} into {place}", "")
