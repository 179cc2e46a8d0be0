"""Builds an image of a Dockerfile: on this machine, or on the first host that can."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import subprocess
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from ...records import events as ev
from ...spec.containers import AUTO
from ...spec.environments import Environment
from ...spec.errors import DiskFull, HostError, ImageNotBuilt
from ...spec.home import home
from ...transport import rsync
from ...transport.agent_client import Agent
from ...transport.answers.images import ImageBuild
from ...transport.local_connection import HERE, LocalConnection, this_machine
from ..concurrency import together
from ..files import build_context
from ..files.build_context import Built, Listing
from ..files.secret_files import SecretFiles, is_new
from ..listeners import OnEvent
from ..policy import builds, dockerfiles
from ..reached import Connected, Host

#: Seconds between two looks at a build; for a runtime to say that it works; and to stop a build.
PAUSE, PATIENCE, STOPPING = 0.3, 90.0, 30.0
WAITS = "waits for another run that builds the same"
#: Characters of a log that are kept, of its end in which a failure is looked for, and steps of one.
MOST_LOG, MOST_TAIL, MOST_STEPS = 64 << 20, 64_000, 2_000
#: Characters that the name of an image has not.
_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")


class Building:
    """The build of one image. ``log`` is where all that it prints is kept."""

    def __init__(
        self,
        wanted: Environment,
        log: Path,
        on_event: OnEvent,
        *,
        pull: bool = False,
        tag: str = "",
    ) -> None:
        self._wanted, self.log, self._on_event = wanted, log, on_event
        self._pull, self._tag = pull, tag
        self._listing: Listing | None = None
        self._key = ""
        self._has_said_size = False
        #: The image, once it is known.
        self.image: Built | None = None
        self.was_built = False

    @property
    def tag(self) -> str:
        """What the runtimes call the image."""
        if self._tag or self.image:
            return self._tag or (self.image.tag if self.image else "")
        file = Path(self._wanted.image)
        name = _NOT_IN_NAMES.sub("-", file.parent.name.lower()).strip("-") or "image"
        return f"localhost/launcher/{name}:latest"

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Keep other runs of this user from building the same meanwhile; wait for one that does."""
        file, folder = Path(self._wanted.image), Path(self._wanted.context or ".")
        place = home() / build_context.FOLDER / f"{build_context.identity(file, folder)}.lock"
        await asyncio.to_thread(place.parent.mkdir, 0o700, True, True)
        lock = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            waits = False
            while not _is_taken(lock):
                if not waits:
                    self._say_step(HERE, WAITS)
                waits = True
                await asyncio.sleep(PAUSE)
            yield
        finally:
            os.close(lock)

    # -- what is known

    async def look(self) -> Built | None:
        """Read what the image is built of; return the one that was built of the same, if there is one.

        Raises InputError.
        """
        listing = await asyncio.to_thread(build_context.listed, self._wanted)
        if listing.bytes > build_context.LARGE and not listing.was_read:
            self._say_context(listing)
        named = SecretFiles(listing.secrets, ())
        folder = listing.folder / ".dockerignore"  # apart from what is said of code
        is_news = await asyncio.to_thread(is_new, folder, named) if listing.secrets else False
        if is_news:
            self._on_event(ev.SecretsInImage(time.time(), listing.secrets))
        self._listing = listing
        self._key = await asyncio.to_thread(build_context.key_of, listing)
        known = build_context.built(listing.identity, self._key)
        is_asked_anew = self._pull or (self._tag and known and known.tag != self._tag)
        self.image = None if is_asked_anew else known
        return self.image

    def _say_context(self, listing: Listing, host: str = "") -> None:
        if self._has_said_size:
            return
        self._has_said_size = True
        about = (listing.bytes, listing.files, listing.largest, host)
        self._on_event(ev.ImageContext(time.time(), *about))

    async def reuse(self) -> None:
        """Say that the image was built before, and whether what it began from has moved."""
        assert self.image and self._listing  # noqa: PT018
        bases = {name: one for name, one in self.image.bases.items() if name}
        now: dict[str, str] = {}
        if bases and self.image.on == HERE:
            now = await asyncio.to_thread(_ids_here, self.image.runtime, list(bases))
        moved = tuple(name for name, one in bases.items() if now.get(name, one) != one)
        self._on_event(
            ev.ImageUnchanged(
                time.time(), self._wanted.image, self.image.id, self.image.time, moved
            )
        )

    # -- the build

    async def build(self, hosts: Sequence[Connected]) -> Built:
        """Build the image, for these hosts. Raises ImageNotBuilt, InputError, HostError."""
        if self._listing is None:
            await self.look()
        assert self._listing
        there = await self._builders(hosts)
        machine = builds.machine(there, self._wanted.image, self._listing.bases)
        async with _this_machine() as here:
            if isinstance(here, str):
                mine: ImageBuild | str = here
            else:
                mine = (await self._builders([here]))[HERE]
            name = builds.place(mine, there, self._wanted.image, machine)
            by_name: dict[str, Connected] = {host.name: host for host in hosts}
            if name is None:
                assert not isinstance(here, str)
                assert isinstance(mine, ImageBuild)
                self.image = await self._on(here, mine, str(self._listing.folder))
            else:
                await self._send(by_name[name])
                self.image = await self._on(by_name[name], there[name], "")
        self.was_built = True
        again = await asyncio.to_thread(build_context.listed, self._wanted)
        if (
            await asyncio.to_thread(build_context.key_of, again) == self._key
        ):  # else edited meanwhile
            build_context.note(again.identity, self._key, self.image)
        return self.image

    async def _builders(self, hosts: Sequence[Connected]) -> dict[str, ImageBuild]:
        """Ask hosts whether they can build; return the answers in their order."""
        runtime = self._wanted.runtime or AUTO

        async def one(host: Connected) -> ImageBuild:
            words = {"do": "builder", "runtime": runtime}
            return await host.agent.answer(ImageBuild, "image", patience=PATIENCE, **words)

        found = await together(one(host) for host in hosts)
        return {host.name: answer for host, answer in zip(hosts, found, strict=True)}

    async def _send(self, host: Connected) -> None:
        """Send the context to a host: what it has of the last one already stays there."""
        listing = self._listing
        assert listing
        if listing.bytes > build_context.LARGE:
            self._say_context(listing, host.name)
        while True:
            words = {"do": "context", "key": listing.identity}
            taken = await host.agent.answer(ImageBuild, "image", patience=PATIENCE, **words)
            if taken.state == "yours":
                break
            self._say_step(host.name, WAITS)
            await asyncio.sleep(PAUSE * 3)

        def tell(percent: int) -> None:
            self._on_event(ev.SyncProgressed(time.time(), host.name, percent, listing.bytes))

        arguments = ["--dirs", "--links", "--times", "--perms", f"--link-dest={taken.place}.old"]
        arguments += [f"{listing.folder}/", f"x:{taken.place}/"]
        names = b"\0".join(listing.paths)
        try:
            await rsync.copy(host.connection, host.name, arguments, names, tell)
        except DiskFull:  # what has come would keep it full
            with suppress(HostError):
                again = {**words, "discard": "1"}
                await host.agent.answer(ImageBuild, "image", patience=PATIENCE, **again)
            raise

    def _say_step(self, on: str, text: str) -> None:
        self._on_event(ev.ImageBuilding(time.time(), on, text))

    async def _on(self, host: Connected, builder: ImageBuild, context: str) -> Built:
        """Have a host build the image of a context there."""
        listing, started = self._listing, time.time()
        assert listing
        request: dict[str, Any] = {
            "runtime": builder.runtime,
            "program": builder.program,
            "key": listing.identity,
            "context": context,
            "dockerfile": listing.text,
            "ignore": listing.ignore if context else "",
            "tag": self.tag,
            "build_args": list(listing.arguments),
            "pull": self._pull,
            "bases": list(dict.fromkeys(one.name for one in listing.bases if one.name)),
        }
        try:
            answer, log = await self._until_built(host, request)
        except BaseException:
            with suppress(HostError, TimeoutError):
                async with asyncio.timeout(STOPPING):
                    await host.agent.answer(
                        ImageBuild, "image", patience=STOPPING, do="build", stop=True
                    )
            raise
        if answer.state != "done":
            raise self._failed(host.name, answer, log)
        seconds = time.time() - started
        said = (self._wanted.image, answer.id, host.name, builder.runtime, seconds)
        self._on_event(ev.ImageBuilt(time.time(), *said))
        about = (host.name, builder.runtime, answer.machine, self.tag)
        return Built(answer.id, time.time(), *about, dict(answer.bases))

    async def _until_built(
        self, host: Connected, request: dict[str, Any]
    ) -> tuple[ImageBuild, str]:
        """Follow a build to its end; return the last answer, and the end of its log."""
        offset, kept, steps, tail, rest = 0, 0, 0, "", ""
        self._say_step(host.name, "")
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self.log.open("w", encoding="utf-8", errors="replace") as file:
            while True:
                words = {"do": "build", "offset": offset, **request}
                answer = await host.agent.answer(ImageBuild, "image", patience=PATIENCE, **words)
                offset += answer.bytes
                kept += len(answer.log)
                if kept < MOST_LOG:
                    file.write(answer.log)
                    file.flush()
                tail = (tail + answer.log)[-MOST_TAIL:]
                *lines, rest = (rest[-MOST_TAIL:] + answer.log).split("\n")
                for line in lines:
                    found = dockerfiles.step(line)
                    if found and steps < MOST_STEPS:
                        steps += 1
                        self._say_step(host.name, found.label)
                if answer.state != "working":
                    return answer, tail
                if not answer.bytes:
                    await asyncio.sleep(PAUSE)

    def _failed(self, on: str, answer: ImageBuild, log: str) -> ImageNotBuilt:
        assert self._listing
        found = dockerfiles.failure(
            log, self._listing.instructions, answer.said or "it was killed", answer.code
        )
        self._on_event(ev.ImageNotBuilt(time.time(), self._wanted.image, on, found.lines))
        where = "" if on == HERE else f" on {on}"
        hint = f"{found.hint}; " if found.hint else ""
        return ImageNotBuilt(
            f"{self._wanted.image} cannot be built{where}: {found.what}",
            f"{hint}all that it printed: {self.log}",
        )


@asynccontextmanager
async def _this_machine() -> AsyncIterator[Host | str]:
    """Give this machine as a host, whose agent ends with us; or why it cannot be one."""
    connection = LocalConnection()
    try:
        agent = await Agent.open(this_machine(home() / "builder"), connection)
    except (HostError, OSError) as error:
        await connection.wait_closed()
        yield getattr(error, "message", str(error))
        return
    try:
        yield Host(HERE, agent, connection)
    finally:
        await agent.close()
        await connection.wait_closed()


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _ids_here(runtime: str, names: Sequence[str]) -> dict[str, str]:
    """Return the IDs that images have on this machine, where it has them."""
    found = {}
    for name in names:
        words = [runtime, "image", "inspect", "--format", "{{.Id}}", name]
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            found[name] = done.stdout.decode("ascii", "replace").strip().rpartition(":")[2]
    return found


def of(wanted: Environment, log: Path | None, on_event: OnEvent, **options: Any) -> Building | None:
    """Return the build of an image that is one of a Dockerfile here; None for any other."""
    if not wanted.is_built or not os.path.isfile(wanted.image):
        return None
    return Building(wanted, log or build_context.log_of(wanted), on_event, **options)
