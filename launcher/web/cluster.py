"""Watches the hosts while pages show them: connected once for all, and let go soon after the last."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..api.check import known_check
from ..api.client import AsyncClient
from ..spec import nodeset

if TYPE_CHECKING:
    from ..api.client import Cluster

#: Seconds between two looks, after which nobody looks any more, and for hosts to answer at first.
EVERY, IDLE, PATIENCE = 2.0, 30.0, 3.0
#: Seconds for which what projects have is not asked for again: it takes a connection to every host.
KEPT = 20.0


class ClusterPages:
    """What all pages that show the hosts share."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._latest: Cluster | None = None
        self._came = asyncio.Event()
        self._asked = 0.0
        self._watching: asyncio.Task[None] | None = None
        self._projects: tuple[float, dict[str, Any]] | None = None
        self._shares = 0  # how often they were changed
        self._asking = asyncio.Lock()

    async def now(self) -> dict[str, Any]:
        """Return what the GPUs of all hosts do, who holds them, and who waits. Raises LauncherError."""
        self._asked = time.monotonic()
        if self._watching is None or self._watching.done():
            self._latest, self._came = None, asyncio.Event()
            self._watching = asyncio.create_task(self._watch())
        if self._latest is None:
            came = asyncio.ensure_future(self._came.wait())
            await asyncio.wait({came, self._watching}, return_when=asyncio.FIRST_COMPLETED)
            came.cancel()
        if self._latest is None:
            self._watching.result()  # raises what went wrong
        assert self._latest
        return asdict(self._latest)

    async def projects(self) -> dict[str, Any]:
        """Return what each project of the inventory may have and has, and the hosts that could not be
        asked. Raises LauncherError."""
        if not self._client.inventory.projects:
            return {"projects": [], "silent": []}
        async with self._asking:  # pages that ask at the same time share one answer
            if self._projects is None or time.monotonic() - self._projects[0] > KEPT:
                before = self._shares
                shares, silent = await self._client.projects()
                told = {"projects": [asdict(one) for one in shares], "silent": list(silent)}
                if before != self._shares:
                    return told
                self._projects = time.monotonic(), told
            return self._projects[1]

    def forget_projects(self) -> None:
        """Ask for the projects anew next time, as after a change of the inventory."""
        self._projects = None
        self._shares += 1

    def checked(self) -> dict[str, Any]:
        """Return when the hosts were checked last, which, and what was found; ``check`` is None if they
        never were. Raises InputError."""
        known = known_check(self._client.inventory)
        if known is None:
            return {"check": None}
        findings = [
            {**one.to_json(), "hosts": nodeset.fold(one.hosts), "there": nodeset.fold(one.there)}
            for one in known.findings
        ]
        hosts = nodeset.fold(known.hosts)
        return {"check": {"time": known.time, "hosts": hosts, "findings": findings}}

    async def close(self) -> None:
        """Let the hosts go."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})

    async def _watch(self) -> None:
        async with aclosing(self._client.watch_cluster(EVERY, PATIENCE)) as looks:
            async for cluster in looks:
                self._latest = cluster
                self._came.set()
                if time.monotonic() - self._asked > IDLE:
                    return
