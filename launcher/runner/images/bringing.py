"""Brings an image to hosts, for a run or ahead of one: of a file, a registry, this machine, or another
host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...spec.containers import is_path
from ...spec.environments import Environment
from ...spec.errors import HostError
from ...spec.frozen import frozen
from ...transport.answers import images as answers
from ..listeners import OnEvent
from ..policy import images
from ..reached import Connected
from .cache import used
from .talk import Talk

if TYPE_CHECKING:
    from .building import Building  # most runs build none


@frozen
class Given:
    """What hosts have after all: their answers, who was brought the image, and who failed."""

    found: Mapping[str, answers.Image]
    brought: tuple[str, ...]
    failed: Mapping[str, HostError]


@frozen
class Others:
    """Hosts outside that have the image, and the ID that it has there."""

    id: str = ""
    hosts: tuple[Connected, ...] = ()


class Bringing:
    """Gives hosts one image. ``request`` is what each of them is asked, besides the image, and ``cache``
    a folder for files that travel. ``others`` have it already, and ``building`` builds it, if it is one
    of a Dockerfile.

    What one host cannot do raises HostError; with ``each_alone``, the others go on.
    """

    def __init__(
        self,
        wanted: Environment,
        request: Callable[[Any], Mapping[str, object]],
        cache: Path,
        on_event: OnEvent,
        others: Others | None = None,
        each_alone: bool = False,
        building: Building | None = None,
    ) -> None:
        others = others or Others()
        self._talk = Talk(wanted, request, on_event, each_alone, building, others.hosts)
        self._talk.pinned = others.id
        self._cache, self._pulls = cache, True

    async def give(self, hosts: Sequence[Connected]) -> Given:
        """Make sure that all hosts can start the same image. Raises HostError, InputError."""
        talk, wanted = self._talk, self._talk.wanted
        if not wanted.is_built and is_path(wanted.image):
            from .archives import of_path  # most images are named, and hosts have them

            file = await asyncio.to_thread(of_path, wanted.image)
            if file and wanted.pinned in ("", file.id):  # else it was written anew since
                talk.file = file
        talk.pinned = talk.file.id if talk.file else wanted.pinned or talk.pinned
        builds = talk.building is not None and not talk.pinned
        if builds:
            await self._build_unless_known(hosts)
        found = await self._everywhere(hosts)
        if found is None:  # what was built before is nowhere any more, or for another machine
            await self._build_again(hosts)
            found = await self._everywhere(hosts)
        assert found is not None
        return self._given(found)

    async def push(self, hosts: Sequence[Connected]) -> tuple[Given, str]:
        """Make all hosts have the image as this machine has it, else as the first of them that has it;
        no registry is asked. Return who has it, and the host that had it, "" for this machine.

        Raises InputError where it is nowhere.
        """
        from .archives import id_here

        image, source, self._pulls = self._talk.wanted.image, "", False
        self._talk.pinned = await asyncio.to_thread(id_here, image)
        if not self._talk.pinned:
            there = await self._talk.look(hosts)
            able = (host.name for host in hosts if host.name in there)
            source = next((one for one in able if there[one].state == "there"), "")
            if not source:
                raise images.nowhere(image, [host.name for host in hosts])
            self._talk.pinned = there[source].id
        found = await self._everywhere(hosts)
        assert found is not None
        given = self._given(found)
        pinned, self._talk.pinned = self._talk.pinned, ""
        called = await self._talk.look([host for host in hosts if host.name in given.found])
        for host, answer in called.items():
            if answer.id != pinned:
                self._talk.fail([host], images.called_otherwise(host, image, pinned))
        left = {host: one for host, one in given.found.items() if host not in self._talk.failed}
        brought = tuple(host for host in given.brought if host in left)
        return Given(left, brought, self._talk.failed), source

    def _given(self, found: dict[str, answers.Image]) -> Given:
        """Return who has the image after all. Raises HostError, unless each is alone."""
        self._require(found)
        brought = tuple(sorted(self._talk.brought - {*self._talk.failed}))
        good = {host: one for host, one in found.items() if host not in self._talk.failed}
        return Given(good, brought, self._talk.failed)

    async def _everywhere(self, hosts: Sequence[Connected]) -> dict[str, answers.Image] | None:
        """Look for the image on hosts, and bring it to those that lack it; return what they have then.
        None if it has to be built again."""
        async with self._talk.doings.told(self._talk.tell):
            found = await self._talk.look(hosts)
            is_old = (
                self._talk.building and self._talk.building.image and self._talk.may_build_again
            )
            if is_old and any(one.code == "other-machine" for one in found.values()):
                return None
            if not self._talk.each_alone:  # what is in the way of one host stops all
                self._stop_for_trouble(found)
            without = [
                one for one in hosts if one.name in found and found[one.name].state == "missing"
            ]
            if without:
                from .copying import Copying  # most hosts have their image

                with used(self._cache):
                    copying = Copying(self._talk, self._cache, self._pulls)
                    if not await copying.bring(without, found, hosts):
                        return None
                found = {**found, **await self._talk.look(without)}
        return found

    async def _build_unless_known(self, hosts: Sequence[Connected]) -> None:
        """Make sure that the image was built; raises ImageNotBuilt, InputError."""
        assert self._talk.building
        async with self._talk.building.alone():
            if known := await self._talk.building.look():
                self._talk.pinned = known.id
                await self._talk.building.reuse()
            else:
                await self._build(hosts)

    async def _build_again(self, hosts: Sequence[Connected]) -> None:
        """Build the image once more; for a run that has begun with it, only of the same files."""
        assert self._talk.building
        if self._talk.building.image is None:
            known = await self._talk.building.look()
            if known is None or known.id != self._talk.pinned:
                raise images.changed(hosts[0].name, self._talk.wanted.image, self._talk.pinned)
        await self._build(hosts)

    async def _build(self, hosts: Sequence[Connected]) -> None:
        assert self._talk.building
        self._talk.pinned = (await self._talk.building.build(hosts)).id

    def _stop_for_trouble(self, found: dict[str, answers.Image]) -> None:
        """Raise HostError for the first host that cannot start the image."""
        if error := images.trouble(found, self._talk.wanted.image):
            raise error

    def _require(self, found: dict[str, answers.Image]) -> None:
        """Fail unless all hosts have the same image, and can start it."""
        image = self._talk.wanted.image
        if self._talk.each_alone:
            for host, answer in found.items():
                if error := images.trouble({host: answer}, image):
                    self._talk.fail([host], error)
        else:
            self._stop_for_trouble(found)
        there = {host: one for host, one in found.items() if host not in self._talk.failed}
        for host, answer in there.items():
            if answer.state != "there":
                self._talk.fail([host], images.changed(host, image, self._talk.pinned))
        good = {host: one for host, one in there.items() if host not in self._talk.failed}
        while error := images.different(good, image):
            others = [host for host, its in good.items() if its.id == good[error.host].id]
            self._talk.fail(others, error)
            good = {host: its for host, its in good.items() if host not in others}
