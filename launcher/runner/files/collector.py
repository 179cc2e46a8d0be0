"""Pulls the outputs of all hosts, now and then during a run and once at its end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence

from ...records import events as ev
from ...spec.errors import HostError, LauncherError
from ..concurrency import in_thread
from ..event_log import Ledger
from ..host_session import Link
from . import outputs
from .outputs import Listed, Output
from .seeding import Handover

#: Copies at once: each is an rsync here.
AT_ONCE = 8
#: How often a file may change while it is pulled for the last time.
TRIES = 3
#: Seconds for a word of a host that was given up: longer than its relay waits for a supervisor.
LAST_TRY = 20.0


class Collector:
    """Knows what has been pulled; one pull at a time."""

    def __init__(
        self,
        links: Sequence[Link],
        aside: Sequence[Link],
        run: str,
        paths: tuple[str, ...],
        ledger: Ledger,
    ) -> None:
        self.outputs: tuple[Output, ...] = ()
        self.failed: dict[str, str] = {}
        self._links, self._aside = links, aside  # those of the run, and those that have left it
        self._run, self._paths, self._ledger = run, paths, ledger
        self.handover = Handover(ledger.folder)
        self._seen: dict[str, Mapping[str, tuple[int, int]]] = {}
        self.hurry = asyncio.Event()
        self._busy = asyncio.Lock()
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def every(self, seconds: float) -> None:
        """Pulls again and again, until cancelled. What goes wrong is tried again next time."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.hurry.wait()
            asked = self.hurry.is_set()
            self.hurry.clear()
            await self.pull(final=False, asked=asked)

    async def pull(self, final: bool = True, asked: bool = False) -> None:
        """Brings what is new. What could not be brought stands in ``failed``, by host. It is reported
        where anything is new, or somebody ``asked``."""
        async with self._busy:
            self.failed = {}
            links = [*self._links, *(self._aside if final else ())]
            moved = await asyncio.gather(*(self._one(link, final) for link in links))
            if any(moved) or final or asked or not self.outputs:
                await self._lay_together()

    async def _lay_together(self) -> None:
        hosts = tuple(link.name for link in self._links)
        former = tuple(link.name for link in self._aside)
        try:
            self.outputs = await in_thread(self._view, hosts, former)
        except (LauncherError, OSError) as error:
            self.failed["this machine"] = str(error)
        self._ledger.add(
            ev.OutputsPulled(
                time.time(), len(self.outputs), sum(o.size for o in self.outputs), dict(self.failed)
            )
        )

    def _view(self, hosts: tuple[str, ...], former: tuple[str, ...]) -> tuple[Output, ...]:
        older = {host: self.handover.superseded(host, hosts) for host in former}
        return outputs.lay_together(self._ledger.folder, hosts + former, older)

    async def _one(self, link: Link, final: bool) -> bool:
        """True when anything was copied from this host."""
        try:
            async with self._limit:
                return await self._pull(link, TRIES if final else 1)
        except HostError as error:
            self.failed[link.name] = error.message
        except (LauncherError, OSError) as error:
            self.failed[link.name] = str(error)
        except Exception as error:  # a mistake of ours: what is missing is told all the same
            self.failed[link.name] = f"launcher's own mistake, {type(error).__name__}: {error}"
        return False

    async def _pull(self, link: Link, tries: int) -> bool:
        mirror = self._ledger.folder.mirror(link.name)
        moved = False
        if link.lost:
            await link.agent.ask("contact", LAST_TRY)
        for _ in range(tries):
            listed = await outputs.listed(link.agent, self._run, self._paths)
            what: Listed = self.handover.own(link.name, listed)
            if what.files == self._seen.get(link.name):
                break
            await outputs.pull(link.connection, link.name, what, mirror)
            self._seen[link.name] = what.files
            moved = True
        return moved
