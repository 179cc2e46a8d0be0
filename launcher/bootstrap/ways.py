"""Finds out by which interfaces hosts reach each other, and writes them into the inventory.

Not responsible for the trials (:mod:`launcher.check`), nor for which interface is the better one
(:mod:`launcher.findings.pair`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import api
from ..check.visitor import Visitor
from ..errors import InputError
from ..findings import suggested
from ..findings.survey import Questions
from ..model import Host, Job
from . import plan

if TYPE_CHECKING:
    from .ready import Request


def interfaces(request: Request, hosts: Sequence[Host]) -> tuple[dict[str, plan.Change], str]:
    """What is written for each host that needs it, and why it could not be, or "".

    Nothing is asked where there is nothing to choose: one host, without an interface of its own.
    """
    if len(hosts) < 2 and not any(host.interface for host in hosts):
        return {}, ""
    wanted = asyncio.run(_wanted(request, hosts))
    wrong = ""
    if wanted and not request.dry_run:
        try:
            api.write_interfaces(request.place, wanted)
        except InputError as error:
            wrong = f"{error}; add by hand: {error.hint}"
    return {host: _change(name, request.place) for host, name in wanted.items()}, wrong


async def _wanted(request: Request, hosts: Sequence[Host]) -> dict[str, str]:
    async with Visitor(request.inventory, hosts, request.ask_passphrase) as visitor:
        await visitor.survey(Questions())
        await visitor.pairs(Job.master_port, bandwidth=False)
        return suggested(visitor.findings)


def _change(interface: str, place: str) -> plan.Change:
    return plan.Change("interface", f"write interface: {interface} into {place}", "")
