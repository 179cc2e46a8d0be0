"""Asks hosts about one image, and remembers who has failed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from ...records import events as ev
from ...spec.environments import Environment
from ...spec.errors import HostError
from ...transport.answers import images as answers
from ..concurrency import together
from ..doings import Doings, Told
from ..listeners import OnEvent
from ..reached import Connected

if TYPE_CHECKING:
    from .archives import ImageFile  # most hosts have their image
    from .building import Building  # most runs build none

T = TypeVar("T")
#: Seconds between two questions to a host.
PAUSE = 0.3
#: What is said of hosts that say nothing.
_SAID = {"save": "saves it", "load": "loads it", "pull": "pulls it"}


class Talk:
    """What hosts are asked about an image: by its name, and by its ID once that is ``pinned``.

    ``request`` is what each of them is asked, besides the image. ``sources`` are hosts outside that have
    it, ``building`` builds it, if it is one of a Dockerfile, and ``file`` is one of this machine.
    """

    def __init__(
        self,
        wanted: Environment,
        request: Callable[[Any], Mapping[str, object]],
        on_event: OnEvent,
        each_alone: bool,
        building: Building | None,
        sources: Sequence[Connected] = (),
    ) -> None:
        self.sources = sources
        self.wanted, self.on_event, self.building = wanted, on_event, building
        self.pinned = ""
        self.file: ImageFile | None = None
        self.doings = Doings()
        self.brought: set[str] = set()
        self.failed: dict[str, HostError] = {}
        self.each_alone = each_alone
        self._request = request

    @property
    def may_build_again(self) -> bool:
        """Whether an image that is nowhere may be built: it is in no use, and was not built just now."""
        if self.building is None or self.building.was_built or self.wanted.pinned:
            return False
        return self.building.image is not None or not self.sources

    def fail(self, hosts: Sequence[str], error: HostError) -> None:
        """Let hosts fail. Raises the error, unless each is alone."""
        if not self.each_alone:
            raise error
        self.failed |= {host: self.failed.get(host, error) for host in hosts}

    async def every(
        self, hosts: Sequence[Connected], do: Callable[[Connected], Awaitable[T]], limit: int = 64
    ) -> dict[str, T]:
        """Do the same with all hosts that have not failed; return the results by host."""
        found: dict[str, T] = {}

        async def one(host: Connected) -> None:
            try:
                found[host.name] = await do(host)
            except HostError as error:
                self.doings.over(host.name)
                self.fail([host.name], error)

        going = (one(host) for host in hosts if host.name not in self.failed)
        await together(going, limit=limit)
        return {host.name: found[host.name] for host in hosts if host.name in found}

    async def look(self, hosts: Sequence[Connected]) -> dict[str, answers.Image]:
        """Have hosts look for the image, and return what they have found."""
        return await self.every(hosts, lambda host: self.until_done(host, "look"))

    async def until_done(self, host: Connected, do: str, **more: object) -> answers.Image:
        """Ask a host until it has done something, and note what it says meanwhile."""
        while True:
            answer = await self.ask(host, do, **more)
            if answer.state != "working":
                self.doings.over(host.name)
                return answer
            self.doings.note(host.name, answer.said or _SAID.get(do, ""), answer.bytes)
            if do != "look":  # which has waited there
                await asyncio.sleep(PAUSE)

    async def ask(self, host: Connected, do: str, **more: object) -> answers.Image:
        """Ask a host once."""
        machine = self.file.machine if self.file else ""
        if self.building and self.building.image:
            machine = self.building.image.machine
        request = {**self._request(host), "pinned": self.pinned, "machine": machine, **more}
        return await host.agent.answer(answers.Image, "image", do=do, **request)

    def tell(self, told: Told) -> None:
        """Say what hosts pull and load."""
        one = told.doing
        more = (told.host, one.said, one.done, one.total, told.seconds)
        self.on_event(ev.ImageBringing(told.now, told.hosts, *more))
