"""The image of a run: all hosts have the same one before anything starts, pinned by its ID."""

from __future__ import annotations

import asyncio
import os
import posixpath
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..records import events as ev
from ..spec.containers import AUTO, Container, is_path
from ..spec.environments import Environment
from ..spec.errors import NoEnvironment
from ..transport import answers, rsync
from .concurrency import beside, together
from .context import RunContext
from .host_session import HostSession
from .image_file import ImageFile, of_path, packed, saved_here
from .policy import images

#: Seconds between two questions to a host, and between two lines about what it does.
PAUSE, TELL = 0.3, 10.0
#: Copies at once: each is an rsync here.
COPIES = 4


class Images:
    """Gives hosts the image of a job; does nothing for a job that names none."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._wanted = context.job.environment or Environment()
        self._file: ImageFile | None = None
        self._doing: dict[str, str] = {}  # what each host that pulls or loads has said last
        self._brought: set[str] = set()

    async def give(self, sessions: Sequence[HostSession]) -> None:
        """Make sure that all hosts can start the same image. Raises HostError, InputError."""
        sessions = [one for one in sessions if one.container is None]
        if not self._wanted.image or not sessions:
            return
        started = time.time()
        file = await asyncio.to_thread(of_path, self._wanted.image)
        if file and self._wanted.pinned in ("", file.id):  # else it was written anew since
            self._file = file
        async with beside(self._tell()):
            found = await self._look(sessions)
            without = [one for one in sessions if found[one.name].state == "missing"]
            if without:
                try:
                    await self._bring(without, found, sessions)
                finally:
                    await asyncio.to_thread(shutil.rmtree, self._cache, ignore_errors=True)
                found = {**found, **await self._look(without)}
        self._require(found)
        for session in sessions:
            answer = found[session.name]
            assert answer.spec
            session.container = Container(
                answer.id, answer.spec, answer.python, answer.python_version
            )
        first = found[sessions[0].name]
        self._context.add(
            ev.ImageGiven(
                time=time.time(),
                image=self._wanted.image,
                id=first.id,
                runtimes={s.name: found[s.name].runtime for s in sessions},
                brought=tuple(sorted(self._brought)),
                seconds=time.time() - started,
            )
        )

    @property
    def _pinned(self) -> str:
        """The ID that it has to be: of the file, of the run to be repeated, or of the other hosts."""
        given = (event.id for event in self._context.events if isinstance(event, ev.ImageGiven))
        return self._file.id if self._file else self._wanted.pinned or next(given, "")

    def _require(self, found: dict[str, answers.Image]) -> None:
        """Raise HostError unless all hosts have the same image, and can start it."""
        if error := images.trouble(found, self._wanted.image):
            raise error
        for host, answer in found.items():
            if answer.state != "there":
                raise images.changed(host, self._wanted.image, self._pinned)
        if error := images.different(
            {host: one.id for host, one in found.items()}, self._wanted.image
        ):
            raise error

    async def _look(self, sessions: Sequence[HostSession]) -> dict[str, answers.Image]:
        found = await together(self._ask(one, "look") for one in sessions)
        return {one.name: answer for one, answer in zip(sessions, found, strict=True)}

    async def _ask(self, session: HostSession, do: str, **more: object) -> answers.Image:
        job = self._context.job
        places = [one.to for one in job.data if one.to.startswith("/")]
        vendors = [gpu.vendor for gpu in session.facts.gpus]
        request = {
            "run": self._context.name,
            "image": self._wanted.image,
            "pinned": self._pinned,
            "runtime": self._wanted.runtime or AUTO,
            "mounts": list(self._wanted.mounts),
            "places": places,
            "gpus": vendors[0] if vendors and job.resources.gpus != 0 else "",
        }
        return await session.agent.answer(answers.Image, "image", do=do, **{**request, **more})

    # -- bringing

    async def _bring(
        self,
        without: Sequence[HostSession],
        found: dict[str, answers.Image],
        sessions: Sequence[HostSession],
    ) -> None:
        """Bring the image to hosts that lack it: of a file, a registry, this machine, another host."""
        lacking = {one.name: found[one.name] for one in without}
        refused: dict[str, str] = {}
        if self._file is None:
            if is_path(self._wanted.image):
                raise images.missing(dict.fromkeys(lacking, ""), self._wanted.image)
            pulled = await together(self._pull(one, lacking[one.name]) for one in without)
            refused = {
                one.name: why for one, why in zip(without, pulled, strict=True) if why is not None
            }
            if not refused:
                return
        file = self._file or await asyncio.to_thread(
            saved_here, self._wanted.image, self._pinned, self._cache
        )
        if file is None:
            file = await self._from_host(sessions, found)
        if file is None and self._wanted.pinned:
            raise images.changed(next(iter(refused)), self._wanted.image, self._wanted.pinned)
        if file is None:
            raise images.missing(refused, self._wanted.image)
        whole = await asyncio.to_thread(packed, file, self._cache)
        still = [one for one in without if self._file or one.name in refused]
        sending = (self._send(one, lacking[one.name], whole) for one in still)
        await together(sending, limit=COPIES)

    @property
    def _cache(self) -> Path:
        """A folder of this run, for as long as it brings the image."""
        return self._context.folder.path.parent.parent / "images" / self._context.name

    async def _pull(self, session: HostSession, about: answers.Image) -> str | None:
        """Have a host pull the image; return why it cannot, or None."""
        answer = await self._until_done(session, "pull", program=about.program)
        self._brought.add(session.name)
        return None if answer.state == "done" else answer.said or "no answer"

    async def _until_done(self, session: HostSession, do: str, **more: object) -> answers.Image:
        while True:
            answer = await self._ask(session, do, **more)
            if answer.state != "working":
                self._doing.pop(session.name, None)
                return answer
            self._doing[session.name] = answer.said
            await asyncio.sleep(PAUSE)

    async def _from_host(
        self, sessions: Sequence[HostSession], found: dict[str, answers.Image]
    ) -> ImageFile | None:
        """Fetch the image from a host that has it."""
        for session in sessions:
            about = found[session.name]
            if about.state != "there" or not about.id:
                continue
            words = {"program": about.program, "runtime": about.runtime, "image_id": about.id}
            answer = await self._until_done(session, "save", **words)
            if answer.state != "done":
                continue
            self._cache.mkdir(parents=True, exist_ok=True)
            part = self._cache / f"{about.id}.{os.getpid()}.part"
            folder, name = posixpath.split(answer.place)
            arguments = ["--inplace", f"x:{folder}/", f"{self._cache}/"]
            await rsync.copy(
                session.connection,
                session.name,
                arguments,
                os.fsencode(name),
                self._progress(session, 0),
            )
            (self._cache / name).replace(part)
            target = self._cache / f"{about.id}.tar"
            part.replace(target)
            await self._ask(session, "save", **{**words, "discard": True})
            return ImageFile(target, about.id)
        return None

    def _linked(self, file: ImageFile, name: str) -> Path:
        """Return a link to a file under the name that hosts expect."""
        link = self._cache / "links" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(file.path.resolve())
        return link

    def _progress(self, session: HostSession, size: int) -> Callable[[int], None]:
        def tell(percent: int) -> None:
            self._context.add(ev.SyncProgressed(time.time(), session.name, percent, size))

        return tell

    async def _send(self, session: HostSession, about: answers.Image, file: ImageFile) -> None:
        """Send a file to a host, and load it there. Raises HostError."""
        while True:
            taken = await self._ask(session, "take", image_id=file.id)
            if taken.state == "yours":
                break
            self._doing[session.name] = "waits for another run that brings the same"
            await asyncio.sleep(PAUSE)
            again = await self._ask(session, "look")
            if again.state == "there":
                self._doing.pop(session.name, None)
                return
        self._doing.pop(session.name, None)
        again = await self._ask(session, "look")
        if again.state != "there":  # else another run has just brought it
            size = (await asyncio.to_thread(file.path.stat)).st_size
            folder, name = posixpath.split(taken.place)
            link = await asyncio.to_thread(self._linked, file, name)
            arguments = ["--inplace", "--copy-links", f"{link.parent}/", f"x:{folder}/"]
            to = (session.connection, session.name)
            await rsync.copy(*to, arguments, os.fsencode(name), self._progress(session, size))
        answer = await self._until_done(session, "load", image_id=file.id, program=about.program)
        if answer.state != "done":
            raise self._failed(session, answer)
        self._brought.add(session.name)

    def _failed(self, session: HostSession, answer: answers.Image) -> Exception:
        found = {session.name: answers.Image("trouble", code=answer.code, said=answer.said)}
        error = images.trouble(found, self._wanted.image)
        assert error
        return NoEnvironment(session.name, error.message, error.hint)

    async def _tell(self) -> None:
        """Say now and then what hosts pull and load, for as long as they do."""
        await asyncio.sleep(1.0)
        while True:
            if self._doing:
                host, said = next(iter(self._doing.items()))
                self._context.add(ev.ImageBringing(time.time(), tuple(self._doing), host, said))
            await asyncio.sleep(TELL)
