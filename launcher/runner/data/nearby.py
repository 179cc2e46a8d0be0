"""Has hosts take a version from other users who share it there, before anything of it travels."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from ...records import events as ev
from ...spec.errors import HostError
from ...transport.answers.data import DataExamined, DataNearby, DataTaking
from ..listeners import OnEvent
from .delivery import BYTES_A_SECOND, PATIENCE, begin, bring_manifest
from .host import Delivered, Host

#: Seconds for which a host copies until it reports.
SECONDS = 2.0

OnProgress = Callable[[str, int], None]


async def take_nearby(
    hosts: Sequence[Host], one: Delivered, progress: OnProgress, on_event: OnEvent
) -> dict[str, int | HostError]:
    """Return the bytes that travelled to hosts that have a version of their own now, and errors. A host
    where nobody else has it, or whose copy is not good, is not among them: it gets it as always."""
    asked = [host for host in hosts if one.folder(host) and host.name != one.listed.there]

    async def take(host: Host) -> int | HostError | None:
        try:
            return await _take(host, one, progress, on_event)
        except HostError as error:
            return error

    done = await asyncio.gather(*map(take, asked))
    return {host.name: its for host, its in zip(asked, done, strict=True) if its is not None}


async def _take(host: Host, one: Delivered, progress: OnProgress, on_event: OnEvent) -> int | None:
    version, shared = one.listed.version, one.folder(host)
    request = {"version": version.version, "shared": shared}
    there = await host.agent.answer(DataNearby, "data", do="nearby", **request)
    if not there.users:
        return None
    begun = await begin(host, one)
    if begun.have:
        return 0
    sent, begun = await bring_manifest(host, host.agent, one, begun)
    is_first, taken = True, DataTaking(0, over=False, whole=False, user="", why="")
    while not taken.over:
        about = {**request, "first": is_first, "seconds": SECONDS}
        taken = await host.agent.answer(DataTaking, "data", patience=PATIENCE, do="take", **about)
        is_first = False
        progress(host.name, min(99, taken.bytes * 100 // max(1, version.bytes)))
    why = taken.why
    if taken.whole:
        patience = PATIENCE + version.bytes / BYTES_A_SECOND
        seal = {"do": "seal", "version": version.version}
        examined = await host.agent.answer(DataExamined, "data", patience=patience, **seal)
        why = ": ".join(examined.bad[0]) if examined.bad else ""
        if examined.count:
            await host.agent.ask("data", do="leave", version=version.version)
    if taken.user:
        on_event(ev.DataTaken(time.time(), host.name, one.data.name, taken.user, taken.bytes, why))
    if why or not taken.whole:
        return None
    progress(host.name, 100)
    return sent
