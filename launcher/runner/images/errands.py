"""Errands to hosts for images, outside of any run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...fleet.fanout import Visited, visit_hosts
from ...spec.containers import AUTO
from ...spec.environments import Environment
from ...spec.errors import HostError
from ...spec.frozen import frozen
from ...spec.home import make_home
from ...spec.model import Host, Inventory, Node
from ...transport.answers.images import ImageRemoved, ImagesThere, ImageThere, RuntimeTrouble
from ...transport.ssh import AskPassphrase
from ..files.build_context import Built, log_of
from ..listeners import OnEvent
from ..policy import images
from ..reached import reached
from . import building as image_building
from .bringing import Bringing, Given
from .building import Building

__all__ = [
    "BuiltImage",
    "ImagePlace",
    "ImageRemoved",
    "ImageThere",
    "ImagesThere",
    "Removals",
    "RuntimeTrouble",
]

#: Seconds for runtimes to list images, or to remove a large one.
PATIENCE = 300.0
#: What has become of an image on a host, for each runtime that had it.
Removals = Sequence[tuple[ImageThere, ImageRemoved]]


@frozen
class BuiltImage:
    """An image of a Dockerfile: who has it now, what it is (None if no host could be reached), whether
    it had to be built, and where the log of its latest build is."""

    given: Given
    image: Built | None
    was_built: bool
    log: str


@frozen
class ImagePlace:
    """The hosts of an inventory to go to, and how to ask for passphrases."""

    inventory: Inventory
    hosts: Sequence[Host]
    ask: AskPassphrase | None = None

    async def listed(self) -> Mapping[str, ImagesThere | HostError]:
        """Return the images of all hosts that launcher knows of."""

        async def one(visited: Visited) -> ImagesThere:
            agent = await visited.agent()
            try:
                return await agent.answer(ImagesThere, "image", patience=PATIENCE, do="list")
            finally:
                await agent.close()

        return await visit_hosts(self.inventory, "", _nodes(self.hosts), one, self.ask)

    async def load(self, wanted: Environment, on_event: OnEvent) -> Given:
        """Bring an image to all hosts, as a run that names it would; build it first, if it is one of a
        Dockerfile. Raises InputError, ImageNotBuilt."""
        return await self._give(wanted, on_event, image_building.of(wanted, None, on_event))

    async def build(
        self, wanted: Environment, on_event: OnEvent, *, pull: bool = False, tag: str = ""
    ) -> BuiltImage:
        """Build an image of a Dockerfile, and bring it to all hosts.

        Raises InputError, ImageNotBuilt."""
        building = Building(wanted, log_of(wanted), on_event, pull=pull, tag=tag)
        given = await self._give(wanted, on_event, building)
        return BuiltImage(given, building.image, building.was_built, os.fspath(building.log))

    async def push(self, wanted: Environment, on_event: OnEvent) -> tuple[Given, str]:
        """Bring an image that this machine has, or else the first host that has it, to all hosts; return
        who has it, and the host that it came from. Raises InputError."""
        async with reached(self.inventory, self.hosts, self.ask) as (there, failed):
            if not there:
                return Given({}, (), failed), ""
            given, source = await self._bringing(wanted, on_event, None).push(there)
        return replace(given, failed={**failed, **given.failed}), source

    async def _give(
        self, wanted: Environment, on_event: OnEvent, building: Building | None
    ) -> Given:
        async with reached(self.inventory, self.hosts, self.ask) as (there, failed):
            if building and not there:
                return Given({}, (), failed)
            given = await self._bringing(wanted, on_event, building).give(there)
        return replace(given, failed={**failed, **given.failed})

    def _bringing(
        self, wanted: Environment, on_event: OnEvent, building: Building | None
    ) -> Bringing:
        request = {
            "image": wanted.image,
            "runtime": wanted.runtime or AUTO,
            "mounts": list(wanted.mounts),
            "uses": True,
        }
        cache = make_home() / "images" / f"load-{os.getpid()}"
        return Bringing(
            wanted, lambda host: request, cache, on_event, each_alone=True, building=building
        )

    async def remove(self, text: str) -> Mapping[str, Removals | HostError]:
        """Remove the image of that name or ID from all hosts that have it, unless it is used there.

        Return what has become of it by host, for each runtime that had it. Raises InputError.
        """
        listed = await self.listed()
        known = {host: one for host, one in listed.items() if isinstance(one, ImagesThere)}
        silent = {host: one for host, one in listed.items() if isinstance(one, HostError)}
        chosen = images.choose(known, text) if known else {}

        async def one(visited: Visited) -> Removals:
            agent = await visited.agent()
            try:
                done = []
                for its in chosen[visited.host]:
                    request = {"do": "remove", "key": its.key}
                    removed = await agent.answer(
                        ImageRemoved, "image", patience=PATIENCE, **request
                    )
                    done.append((its, removed))
                return done
            finally:
                await agent.close()

        nodes = _nodes([host for host in self.hosts if host.name in chosen])
        done = await visit_hosts(self.inventory, "", nodes, one, self.ask)
        return {**silent, **done}


def _nodes(hosts: Sequence[Host]) -> list[Node]:
    return [Node(host, 0, 0, 0, root=host.workdir) for host in hosts]
