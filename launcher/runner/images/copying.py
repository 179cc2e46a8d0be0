"""Brings an image to hosts that lack it: of a file, a registry, this machine, or another host."""

from __future__ import annotations

import asyncio
import os
import posixpath
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ...records import events as ev
from ...spec.containers import is_path
from ...spec.errors import DiskFull, HostError
from ...transport import rsync
from ...transport.answers import images as answers
from ..concurrency import beside
from ..policy import images
from ..reached import Connected
from .archives import ImageFile, folder_size, packed, saved_here, written
from .cache import linked
from .talk import PAUSE, Talk

#: Copies at once: each is an rsync here.
COPIES = 4


class Copying:
    """Gives hosts an image that they lack. ``cache`` is for files that travel. With ``pulls``, they ask
    a registry first."""

    def __init__(self, talk: Talk, cache: Path, pulls: bool) -> None:
        self._talk, self._cache, self._pulls = talk, cache, pulls

    async def bring(
        self,
        without: Sequence[Connected],
        found: dict[str, answers.Image],
        hosts: Sequence[Connected],
    ) -> bool:
        """Bring the image to hosts that lack it: of a file, a registry, this machine, another host.

        Return False if it is nowhere, and can be built."""
        lacking = {one.name: found[one.name] for one in without}
        refused: dict[str, str] = {}
        if self._talk.wanted.is_built or not self._pulls:
            refused = dict.fromkeys(lacking, "")  # no registry has it, or is asked
        elif self._talk.file is None:
            if is_path(self._talk.wanted.image):
                self._lack(dict.fromkeys(lacking, ""))
                return True
            pulled = await self._talk.every(
                without, lambda host: self._pull(host, lacking[host.name])
            )
            refused = {host: why for host, why in pulled.items() if why is not None}
            if not refused:
                return True
        name = self._talk.building.tag if self._talk.building else self._talk.wanted.image
        waiting = [one.name for one in without if self._talk.file or one.name in refused]
        file = self._talk.file
        kinds = {lacking[name].machine for name in waiting}
        if file is None and len(kinds) > 1:
            error = images.of_several_kinds(
                {name: lacking[name].machine for name in waiting}, refused, self._talk.wanted.image
            )
            self._talk.fail(waiting, error)
            return True
        if file is None:
            async with self._written("this machine saves it", waiting) as known:
                file = await asyncio.to_thread(
                    saved_here, name, self._talk.pinned, self._cache, known.append, kinds
                )
        if file is None:
            file = await self._from_host([*hosts, *self._talk.sources], found, kinds)
        if file is None:
            return self._lack_everywhere(refused)
        async with self._written("this machine packs it", waiting) as known:
            if file.path.is_dir():
                known.append(await asyncio.to_thread(folder_size, file.path))
            whole = await asyncio.to_thread(packed, file, self._cache)
        still = [one for one in without if self._talk.file or one.name in refused]
        await self._talk.every(
            still, lambda host: self._send(host, lacking[host.name], whole), COPIES
        )
        return True

    def _lack_everywhere(self, hosts: dict[str, str]) -> bool:
        """Let hosts fail for which the image is nowhere; return False if it can be built."""
        image, building = self._talk.wanted.image, self._talk.building
        built = building.image if building else None
        if not self._pulls:
            for host in hosts:
                self._talk.fail([host], images.not_saved(host, image))
            return True
        if self._talk.may_build_again:
            return False
        if built:
            for host in hosts:
                self._talk.fail([host], images.unsaved(host, image, built.on))
        elif self._talk.wanted.pinned or self._talk.wanted.is_built:
            self._talk.fail([*hosts], images.changed(next(iter(hosts)), image, self._talk.pinned))
        else:
            self._lack(hosts)
        return True

    def _lack(self, hosts: dict[str, str]) -> None:
        """Let hosts fail that lack the image; by host, why it cannot be pulled."""
        if not self._talk.each_alone:
            raise images.missing(hosts, self._talk.wanted.image)
        for host, why in hosts.items():
            self._talk.fail([host], images.missing({host: why}, self._talk.wanted.image))

    async def _pull(self, host: Connected, about: answers.Image) -> str | None:
        """Have a host pull the image; return why it cannot, or None."""
        answer = await self._talk.until_done(host, "pull", program=about.program)
        self._talk.brought.add(host.name)
        return None if answer.state == "done" else answer.said or "no answer"

    async def _from_host(
        self, hosts: Sequence[Connected], found: dict[str, answers.Image], kinds: Collection[str]
    ) -> ImageFile | None:
        """Fetch the image from a host of the same kind that has it."""
        for host in hosts:
            try:
                about = found.get(host.name) or await self._talk.until_done(host, "look")
                if about.state != "there" or not about.id or about.machine not in kinds:
                    continue
                file = await self._saved(host, about)
            except HostError as error:
                if host not in self._talk.sources:
                    self._talk.fail([host.name], error)
                continue
            if file is not None:
                return file
        return None

    async def _saved(self, host: Connected, about: answers.Image) -> ImageFile | None:
        """Have a host save its image, and fetch that; None where it cannot."""
        words = {"program": about.program, "runtime": about.runtime, "image_id": about.id}
        if self._talk.building:
            words["image"] = self._talk.building.tag
        answer = await self._talk.until_done(host, "save", **words)
        if answer.state != "done":
            return None
        self._cache.mkdir(parents=True, exist_ok=True)
        folder, name = posixpath.split(answer.place)
        arguments = ["--inplace", f"x:{folder}/", f"{self._cache}/"]
        to = (host.connection, host.name)
        await rsync.copy(
            *to, arguments, os.fsencode(name), self._progress(host, answer.bytes, "sends it")
        )
        self._talk.doings.over(host.name)
        target = self._cache / f"{about.id}.tar"
        (self._cache / name).replace(target)
        await self._talk.ask(host, "save", **{**words, "discard": True})
        return ImageFile(target, about.id)

    @asynccontextmanager
    async def _written(self, said: str, hosts: Sequence[str]) -> AsyncIterator[list[int]]:
        """Note for hosts what this machine writes into the cache; gives a list for its whole size."""
        known: list[int] = []

        async def watch() -> None:
            while True:
                done = await asyncio.to_thread(written, self._cache)
                for host in hosts if done else ():
                    self._talk.doings.note(host, said, done, max([0, *known[-1:]]))
                await asyncio.sleep(PAUSE)

        try:
            async with beside(watch()):
                yield known
        finally:
            for host in hosts:
                self._talk.doings.over(host)

    def _progress(
        self, host: Connected, size: int, said: str = "is sent it"
    ) -> Callable[[int], None]:
        def tell(percent: int) -> None:
            self._talk.doings.note(host.name, said, size * percent // 100, size)
            self._talk.on_event(ev.SyncProgressed(time.time(), host.name, percent, size))

        return tell

    async def _send(self, host: Connected, about: answers.Image, file: ImageFile) -> None:
        """Send a file to a host, and load it there. Raises HostError."""
        while True:
            taken = await self._talk.ask(host, "take", image_id=file.id)
            if taken.state == "yours":
                break
            self._talk.doings.note(host.name, "waits for another run that brings the same")
            await asyncio.sleep(PAUSE)
            again = await self._talk.until_done(host, "look")
            if again.state == "there":
                self._talk.doings.over(host.name)
                return
        self._talk.doings.over(host.name)
        again = await self._talk.until_done(host, "look")
        if again.state != "there":  # else another run has just brought it
            size = (await asyncio.to_thread(file.path.stat)).st_size
            folder, name = posixpath.split(taken.place)
            link = await asyncio.to_thread(linked, self._cache, file.path, name)
            arguments = ["--inplace", "--copy-links", f"{link.parent}/", f"x:{folder}/"]
            to = (host.connection, host.name)
            try:
                await rsync.copy(*to, arguments, os.fsencode(name), self._progress(host, size))
            except DiskFull:  # what has come would keep it full
                with suppress(HostError):
                    await self._talk.ask(host, "take", image_id=file.id, discard=True)
                raise
            self._talk.doings.over(host.name)
        answer = await self._talk.until_done(host, "load", image_id=file.id, program=about.program)
        if answer.state != "done":
            raise self._refusal(host, answer)
        self._talk.brought.add(host.name)

    def _refusal(self, host: Connected, answer: answers.Image) -> HostError:
        found = {host.name: answers.Image("trouble", code=answer.code, said=answer.said)}
        error = images.trouble(found, self._talk.wanted.image)
        assert error
        return error
