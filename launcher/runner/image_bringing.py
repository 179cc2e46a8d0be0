"""Brings an image to hosts, for a run or ahead of one: of a file, a registry, this machine, or another
host."""

from __future__ import annotations

import asyncio
import fcntl
import os
import posixpath
import shutil
import time
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..records import events as ev
from ..spec.containers import is_path
from ..spec.environments import Environment
from ..spec.errors import HostError
from ..spec.frozen import frozen
from ..transport import rsync
from ..transport.answers import images as answers
from .concurrency import beside, together
from .doings import Doings, Told
from .image_file import (
    ImageFile,
    folder_size,
    id_here,
    of_path,
    packed,
    saved_here,
    written,
)
from .listeners import OnEvent
from .policy import images
from .reached import Connected

if TYPE_CHECKING:
    from .image_building import Building  # most runs build none

T = TypeVar("T")
#: Seconds between two questions to a host.
PAUSE = 0.3
#: What is said of hosts that say nothing.
_SAID = {"save": "saves it", "load": "loads it", "pull": "pulls it"}
#: Copies at once: each is an rsync here.
COPIES = 4
#: In a cache: held while somebody fills it.
LOCK = "lock"


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
        self._wanted, self._request, self._cache = wanted, request, cache
        self._on_event, self._each_alone = on_event, each_alone
        others = others or Others()
        self._pinned, self._sources = others.id, others.hosts
        self._building, self._pulls = building, True
        self._file: ImageFile | None = None
        self._doings = Doings()
        self._brought: set[str] = set()
        self._failed: dict[str, HostError] = {}

    async def give(self, hosts: Sequence[Connected]) -> Given:
        """Make sure that all hosts can start the same image. Raises HostError, InputError."""
        if not self._wanted.is_built:
            file = await asyncio.to_thread(of_path, self._wanted.image)
            if file and self._wanted.pinned in ("", file.id):  # else it was written anew since
                self._file = file
        self._pinned = self._file.id if self._file else self._wanted.pinned or self._pinned
        builds = self._building is not None and not self._pinned
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
        image, source, self._pulls = self._wanted.image, "", False
        self._pinned = await asyncio.to_thread(id_here, image)
        if not self._pinned:
            there = await self._look(hosts)
            able = (host.name for host in hosts if host.name in there)
            source = next((one for one in able if there[one].state == "there"), "")
            if not source:
                raise images.nowhere(image, [host.name for host in hosts])
            self._pinned = there[source].id
        found = await self._everywhere(hosts)
        assert found is not None
        given = self._given(found)
        pinned, self._pinned = self._pinned, ""
        called = await self._look([host for host in hosts if host.name in given.found])
        for host, answer in called.items():
            if answer.id != pinned:
                self._fail([host], images.called_otherwise(host, image, pinned))
        left = {host: one for host, one in given.found.items() if host not in self._failed}
        brought = tuple(host for host in given.brought if host in left)
        return Given(left, brought, self._failed), source

    def _given(self, found: dict[str, answers.Image]) -> Given:
        """Return who has the image after all. Raises HostError, unless each is alone."""
        self._require(found)
        brought = tuple(sorted(self._brought - {*self._failed}))
        good = {host: one for host, one in found.items() if host not in self._failed}
        return Given(good, brought, self._failed)

    async def _everywhere(self, hosts: Sequence[Connected]) -> dict[str, answers.Image] | None:
        """Look for the image on hosts, and bring it to those that lack it; return what they have then.
        None if it has to be built again."""
        async with self._doings.told(self._tell):
            found = await self._look(hosts)
            is_old = self._building and self._building.image and self._may_build_again
            if is_old and any(one.code == "other-machine" for one in found.values()):
                return None
            without = [one for one in hosts if one.name in found and _lacks(found[one.name])]
            if without:
                with _cache(self._cache):
                    if not await self._bring(without, found, hosts):
                        return None
                found = {**found, **await self._look(without)}
        return found

    async def _build_unless_known(self, hosts: Sequence[Connected]) -> None:
        """Make sure that the image was built; raises ImageNotBuilt, InputError."""
        assert self._building
        async with self._building.alone():
            if known := await self._building.look():
                self._pinned = known.id
                await self._building.reuse()
            else:
                await self._build(hosts)

    async def _build_again(self, hosts: Sequence[Connected]) -> None:
        """Build the image once more; for a run that has begun with it, only of the same files."""
        assert self._building
        if self._building.image is None:
            known = await self._building.look()
            if known is None or known.id != self._pinned:
                raise images.changed(hosts[0].name, self._wanted.image, self._pinned)
        await self._build(hosts)

    async def _build(self, hosts: Sequence[Connected]) -> None:
        assert self._building
        self._pinned = (await self._building.build(hosts)).id

    def _require(self, found: dict[str, answers.Image]) -> None:
        """Fail unless all hosts have the same image, and can start it."""
        image = self._wanted.image
        if self._each_alone:
            for host, answer in found.items():
                if error := images.trouble({host: answer}, image):
                    self._fail([host], error)
        elif error := images.trouble(found, image):
            raise error
        there = {host: one for host, one in found.items() if host not in self._failed}
        for host, answer in there.items():
            if answer.state != "there":
                self._fail([host], images.changed(host, image, self._pinned))
        good = {host: one for host, one in there.items() if host not in self._failed}
        while error := images.different(good, image):
            others = [host for host, its in good.items() if its.id == good[error.host].id]
            self._fail(others, error)
            good = {host: its for host, its in good.items() if host not in others}

    def _fail(self, hosts: Sequence[str], error: HostError) -> None:
        """Let hosts fail. Raises the error, unless each is alone."""
        if not self._each_alone:
            raise error
        self._failed |= {host: self._failed.get(host, error) for host in hosts}

    async def _every(
        self, hosts: Sequence[Connected], do: Callable[[Connected], Awaitable[T]], limit: int = 64
    ) -> dict[str, T]:
        """Do the same with all hosts that have not failed; return the results by host."""
        found: dict[str, T] = {}

        async def one(host: Connected) -> None:
            try:
                found[host.name] = await do(host)
            except HostError as error:
                self._doings.over(host.name)
                self._fail([host.name], error)

        going = (one(host) for host in hosts if host.name not in self._failed)
        await together(going, limit=limit)
        return {host.name: found[host.name] for host in hosts if host.name in found}

    async def _look(self, hosts: Sequence[Connected]) -> dict[str, answers.Image]:
        return await self._every(hosts, lambda host: self._until_done(host, "look"))

    async def _ask(self, host: Connected, do: str, **more: object) -> answers.Image:
        machine = self._file.machine if self._file else ""
        if self._building and self._building.image:
            machine = self._building.image.machine
        request = {**self._request(host), "pinned": self._pinned, "machine": machine, **more}
        return await host.agent.answer(answers.Image, "image", do=do, **request)

    # -- bringing

    async def _bring(
        self,
        without: Sequence[Connected],
        found: dict[str, answers.Image],
        hosts: Sequence[Connected],
    ) -> bool:
        """Bring the image to hosts that lack it: of a file, a registry, this machine, another host.

        Return False if it is nowhere, and can be built."""
        lacking = {one.name: found[one.name] for one in without}
        refused: dict[str, str] = {}
        if self._wanted.is_built or not self._pulls:
            refused = dict.fromkeys(lacking, "")  # no registry has it, or is asked
        elif self._file is None:
            if is_path(self._wanted.image):
                self._lack(dict.fromkeys(lacking, ""))
                return True
            pulled = await self._every(without, lambda host: self._pull(host, lacking[host.name]))
            refused = {host: why for host, why in pulled.items() if why is not None}
            if not refused:
                return True
        name = self._building.tag if self._building else self._wanted.image
        waiting = [one.name for one in without if self._file or one.name in refused]
        file = self._file
        kinds = {lacking[name].machine for name in waiting}
        if file is None and len(kinds) > 1:
            error = images.of_several_kinds(
                {name: lacking[name].machine for name in waiting}, refused, self._wanted.image
            )
            self._fail(waiting, error)
            return True
        if file is None:
            async with self._written("this machine saves it", waiting) as known:
                file = await asyncio.to_thread(
                    saved_here, name, self._pinned, self._cache, known.append, kinds
                )
        if file is None:
            file = await self._from_host([*hosts, *self._sources], found, kinds)
        if file is None:
            return self._lack_everywhere(refused)
        async with self._written("this machine packs it", waiting) as known:
            if file.path.is_dir():
                known.append(await asyncio.to_thread(folder_size, file.path))
            whole = await asyncio.to_thread(packed, file, self._cache)
        still = [one for one in without if self._file or one.name in refused]
        await self._every(still, lambda host: self._send(host, lacking[host.name], whole), COPIES)
        return True

    @property
    def _may_build_again(self) -> bool:
        """Whether an image that is nowhere may be built: it is in no use, and was not built just now."""
        if self._building is None or self._building.was_built or self._wanted.pinned:
            return False
        return self._building.image is not None or not self._sources

    def _lack_everywhere(self, hosts: dict[str, str]) -> bool:
        """Let hosts fail for which the image is nowhere; return False if it can be built."""
        image, built = self._wanted.image, self._building.image if self._building else None
        if not self._pulls:
            for host in hosts:
                self._fail([host], images.not_saved(host, image))
            return True
        if self._may_build_again:
            return False
        if built:
            for host in hosts:
                self._fail([host], images.unsaved(host, image, built.on))
        elif self._wanted.pinned or self._wanted.is_built:
            self._fail([*hosts], images.changed(next(iter(hosts)), image, self._pinned))
        else:
            self._lack(hosts)
        return True

    def _lack(self, hosts: dict[str, str]) -> None:
        """Let hosts fail that lack the image; by host, why it cannot be pulled."""
        if not self._each_alone:
            raise images.missing(hosts, self._wanted.image)
        for host, why in hosts.items():
            self._fail([host], images.missing({host: why}, self._wanted.image))

    async def _pull(self, host: Connected, about: answers.Image) -> str | None:
        """Have a host pull the image; return why it cannot, or None."""
        answer = await self._until_done(host, "pull", program=about.program)
        self._brought.add(host.name)
        return None if answer.state == "done" else answer.said or "no answer"

    async def _until_done(self, host: Connected, do: str, **more: object) -> answers.Image:
        while True:
            answer = await self._ask(host, do, **more)
            if answer.state != "working":
                self._doings.over(host.name)
                return answer
            self._doings.note(host.name, answer.said or _SAID.get(do, ""), answer.bytes)
            if do != "look":  # which has waited there
                await asyncio.sleep(PAUSE)

    async def _from_host(
        self, hosts: Sequence[Connected], found: dict[str, answers.Image], kinds: Collection[str]
    ) -> ImageFile | None:
        """Fetch the image from a host of the same kind that has it."""
        for host in hosts:
            try:
                about = found.get(host.name) or await self._until_done(host, "look")
                if about.state != "there" or not about.id or about.machine not in kinds:
                    continue
                file = await self._saved(host, about)
            except HostError as error:
                if host not in self._sources:
                    self._fail([host.name], error)
                continue
            if file is not None:
                return file
        return None

    async def _saved(self, host: Connected, about: answers.Image) -> ImageFile | None:
        """Have a host save its image, and fetch that; None where it cannot."""
        words = {"program": about.program, "runtime": about.runtime, "image_id": about.id}
        if self._building:
            words["image"] = self._building.tag
        answer = await self._until_done(host, "save", **words)
        if answer.state != "done":
            return None
        self._cache.mkdir(parents=True, exist_ok=True)
        folder, name = posixpath.split(answer.place)
        arguments = ["--inplace", f"x:{folder}/", f"{self._cache}/"]
        to = (host.connection, host.name)
        await rsync.copy(
            *to, arguments, os.fsencode(name), self._progress(host, answer.bytes, "sends it")
        )
        self._doings.over(host.name)
        target = self._cache / f"{about.id}.tar"
        (self._cache / name).replace(target)
        await self._ask(host, "save", **{**words, "discard": True})
        return ImageFile(target, about.id)

    @asynccontextmanager
    async def _written(self, said: str, hosts: Sequence[str]) -> AsyncIterator[list[int]]:
        """Note for hosts what this machine writes into the cache; gives a list for its whole size."""
        known: list[int] = []

        async def watch() -> None:
            while True:
                done = await asyncio.to_thread(written, self._cache)
                for host in hosts if done else ():
                    self._doings.note(host, said, done, max([0, *known[-1:]]))
                await asyncio.sleep(PAUSE)

        try:
            async with beside(watch()):
                yield known
        finally:
            for host in hosts:
                self._doings.over(host)

    def _progress(
        self, host: Connected, size: int, said: str = "is sent it"
    ) -> Callable[[int], None]:
        def tell(percent: int) -> None:
            self._doings.note(host.name, said, size * percent // 100, size)
            self._on_event(ev.SyncProgressed(time.time(), host.name, percent, size))

        return tell

    async def _send(self, host: Connected, about: answers.Image, file: ImageFile) -> None:
        """Send a file to a host, and load it there. Raises HostError."""
        while True:
            taken = await self._ask(host, "take", image_id=file.id)
            if taken.state == "yours":
                break
            self._doings.note(host.name, "waits for another run that brings the same")
            await asyncio.sleep(PAUSE)
            again = await self._until_done(host, "look")
            if again.state == "there":
                self._doings.over(host.name)
                return
        self._doings.over(host.name)
        again = await self._until_done(host, "look")
        if again.state != "there":  # else another run has just brought it
            size = (await asyncio.to_thread(file.path.stat)).st_size
            folder, name = posixpath.split(taken.place)
            link = await asyncio.to_thread(linked, self._cache, file.path, name)
            arguments = ["--inplace", "--copy-links", f"{link.parent}/", f"x:{folder}/"]
            to = (host.connection, host.name)
            await rsync.copy(*to, arguments, os.fsencode(name), self._progress(host, size))
            self._doings.over(host.name)
        answer = await self._until_done(host, "load", image_id=file.id, program=about.program)
        if answer.state != "done":
            raise self._refusal(host, answer)
        self._brought.add(host.name)

    def _refusal(self, host: Connected, answer: answers.Image) -> HostError:
        found = {host.name: answers.Image("trouble", code=answer.code, said=answer.said)}
        error = images.trouble(found, self._wanted.image)
        assert error
        return error

    def _tell(self, told: Told) -> None:
        """Say what hosts pull and load."""
        one = told.doing
        more = (told.host, one.said, one.done, one.total, told.seconds)
        self._on_event(ev.ImageBringing(told.now, told.hosts, *more))


def _lacks(answer: answers.Image) -> bool:
    return answer.state == "missing"


# -- files of images here


def linked(cache: Path, file: Path, name: str) -> Path:
    """Return a link to a file, under the name that hosts expect; several copies may read it at once."""
    link = cache / "links" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # made for another host, which reads it now
        link.symlink_to(file.resolve())
    return link


@contextmanager
def _cache(folder: Path) -> Iterator[None]:
    """Use a folder for as long as an image is brought."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def left_caches(base: Path) -> list[Path]:
    """Return the folders of those who were killed while they brought an image."""
    return [path for path in sorted(base.iterdir()) if not _is_held(path)] if base.is_dir() else []


def _is_held(folder: Path) -> bool:
    try:
        lock = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return not folder.is_dir()  # one of an earlier version, or it has just begun
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(lock)
    return False
