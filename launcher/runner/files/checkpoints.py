"""Keeps checkpoints of a run every so often: all files of one moment, or none.

Here they are in the folder of the run, see ``checkpoint_folder``. In the store of the run they are below
``checkpoints/``: files as ``files/HOST/TIME-SIZE/PATH``, each written once, and ``000001.json``, which
names them, written last.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ...records import events as ev
from ...records.run_folder import RunFolder
from ...spec.errors import HostError, LauncherError, RecordError, StoreError
from ...spec.files import sha256_of
from ...spec.model import Checkpoints, Job
from ...spec.typed_json import Mismatch, from_json, to_json
from ..concurrency import in_thread
from ..context import RunContext
from ..host_session import HostSession
from ..host_set import HostSet
from ..policy.spares import named
from . import outputs
from .checkpoint_folder import FOLDER, KEPT, NEW, Checkpoint, File, begin, conclude, newest
from .choice import Choice
from .mirrors import state_of
from .outputs import Listed
from .seeding import Handover
from .store_progress import Uploading
from .storing import Part, Storing, Target

T = TypeVar("T")

#: Seconds for which nothing may change until it counts as a checkpoint, and looks for that.
QUIET, LOOKS = 2.0, 30
#: Notes of what the store has of them.
NOTES, FILES = "checkpoints.json", "checkpoints-files.jsonl"


class Keeper:
    """Keeps checkpoints of one run."""

    def __init__(self, context: RunContext, hosts: HostSet, handover: Handover) -> None:
        self._context, self._hosts, self._handover = context, hosts, handover
        job = context.job
        self._wanted = job.checkpoints or Checkpoints("", 0.0)
        self._here = not (job.output_to and "*" in job.keep_on_host)
        self._store = _Store(context) if job.output_to else None
        found = newest(context.folder.path)
        self._number = found[1].number if found else 0
        self._seen: Mapping[str, tuple[tuple[str, int, int], ...]] = {}
        self._complaint = ""

    async def every(self) -> None:
        """Keep one every so often, until cancelled. What goes wrong is told, and tried again the next
        time."""
        while self._wanted.path:
            await asyncio.sleep(self._wanted.every)
            await self._try()

    async def last(self) -> None:
        """Keep the one that a run has left which has succeeded: nothing else is sure to be whole."""
        if self._wanted.path and self._context.state.failure is None:
            await self._try()

    async def _try(self) -> None:
        try:
            await self.take()
            self._complaint = ""
        except (LauncherError, OSError) as error:
            self._complain(str(error))

    def _complain(self, why: str) -> None:
        if why != self._complaint:
            self._complaint = why
            self._context.add(ev.CheckpointMissed(time.time(), why))

    async def take(self) -> bool:
        """Keep one, if there is anything new; return whether there was. Raises LauncherError."""
        sessions = [session for session in self._hosts.active if session.lost is None]
        for _ in range(LOOKS):
            what = await self._look(sessions)
            seen = {host: tuple(sorted(listed.files)) for host, listed in what.items()}
            if not any(seen.values()) or seen == self._seen:
                return False
            await asyncio.sleep(QUIET)
            if await self._is_now(sessions, seen) and await self._keep(sessions, what, seen):
                self._seen = seen
                return True
        raise LauncherError(
            f"{self._wanted.path} changes all the time",
            "write a checkpoint under another name, and rename it when it is whole",
        )

    async def _look(self, sessions: Sequence[HostSession]) -> dict[str, Listed]:
        run, job = self._context.name, self._context.job
        choice = Choice(job.output_paths)
        path = [self._wanted.path]

        async def one(session: HostSession) -> Listed:
            listed = await outputs.listed(session.agent, run, choice)
            mine = self._handover.own(session.name, listed)
            keep = partial(_is_named, path)
            return replace(
                mine, outputs=mine.outputs.only(keep), code=mine.code.only(keep), unlisted=0
            )

        found = await asyncio.gather(*map(one, sessions))
        return {session.name: its for session, its in zip(sessions, found, strict=True)}

    async def _is_now(
        self, sessions: Sequence[HostSession], seen: Mapping[str, tuple[tuple[str, int, int], ...]]
    ) -> bool:
        now = await self._look(sessions)
        return {host: tuple(sorted(listed.files)) for host, listed in now.items()} == seen

    async def _keep(
        self,
        sessions: Sequence[HostSession],
        what: Mapping[str, Listed],
        seen: Mapping[str, tuple[tuple[str, int, int], ...]],
    ) -> bool:
        """Copy what hosts have to where it is kept; return False if it has changed meanwhile."""
        new = self._context.folder.path / FOLDER / NEW
        number = self._number + 1
        if self._store:
            number = max(number, await self._store.last() + 1)
        try:
            if self._here:
                await in_thread(begin, new)
                for session in sessions:
                    await self._pull(session, what[session.name], new)
            if self._store:
                for session in sessions:
                    await self._store.put(session, what[session.name])
            if not await self._is_now(sessions, seen):
                return False
            files = tuple(
                File(host, path, size, moment)
                for host, its in seen.items()
                for path, size, moment in its
            )
            made = Checkpoint(number, time.time(), self._wanted.path, files)
            if self._here:
                await in_thread(conclude, new, made)
            if self._store:
                await self._store.finish(made)
        finally:
            await in_thread(shutil.rmtree, new, True)
        self._number = number
        where = self._store.to if self._store and not self._here else "here"
        if self._store and self._here:
            where = f"here and in {self._store.to}"
        kept = ev.CheckpointKept(made.time, number, len(files), made.size, where)
        self._context.add(kept)
        return True

    async def _pull(self, session: HostSession, what: Listed, new: Path) -> None:
        mirror = new / session.name
        places = [self._context.folder.mirror(session.name)]
        if found := newest(self._context.folder.path):
            places.insert(0, found[0] / session.name)
        await in_thread(_link, what, places, mirror)
        pulled = await outputs.pull(session.connection, session.name, what, mirror)
        if pulled.missing:
            raise HostError(session.name, pulled.missing)


def _is_named(paths: Sequence[str], path: str, *_: int) -> bool:
    return named(path, paths)


def _link(what: Listed, places: Sequence[Path], mirror: Path) -> None:
    """Take the files that are here already: as they were kept last, or came with other outputs."""
    mirror.mkdir()
    for path, size, moment in what.files:
        for place in places:
            with suppress(OSError):
                if state_of(place / path) == (size, moment):
                    (mirror / path).parent.mkdir(parents=True, exist_ok=True)
                    os.link(place / path, mirror / path, follow_symlinks=False)
                    break


# -- in a store


class _Notes:
    """The folder of a run, for notes of what its store has of checkpoints."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder, self.path = folder, folder.path / FOLDER

    def read_as(self, kind: type[T], name: str) -> T | None:
        return self._folder.read_as(kind, NOTES)

    def write(self, name: str, value: object) -> None:
        if name == "stored.json":
            self._folder.write(NOTES, value)


class _Store(Storing):
    """Writes the files of checkpoints to the store of a run, each once."""

    def __init__(self, context: RunContext) -> None:
        path = context.folder.path
        super().__init__(_Notes(context.folder), context.job, path, path / FILES)
        self.to = self._stored.to
        self._last: int | None = None

    def _parts(self, host: str, listed: Listed) -> list[Part]:
        return [
            Part(folder, below, path, size, moment, _name(host, path, size, moment))
            for folder, below, (path, size, moment) in sorted(
                listed.located, key=lambda one: one[2]
            )
        ]

    async def last(self) -> int:
        """Return the number of the newest one there; 0 without any. Raises StoreError."""
        if self._last is None:
            target = await self._opened()
            numbers = await in_thread(_numbers, target)
            self._last = numbers[0] if numbers else 0
        return self._last

    async def put(self, session: HostSession, listed: Listed) -> None:
        """Write what a host has, as far as it is not there. Raises LauncherError."""
        host, agent = session.name, session.agent
        parts, size = await in_thread(self._left, self._parts(host, listed))
        await self._store(host, agent, parts, Uploading(host, size, self.on_stored))

    async def finish(self, made: Checkpoint) -> None:
        """Write which files a checkpoint has, and delete those of older ones. Raises StoreError."""
        files = []
        for one in made.files:
            name = _name(one.host, one.path, one.size, one.time)
            known = self._files.get(name)
            assert known
            files.append(replace(one, name=name, sum=known.sum))
        target = await self._opened()
        text = json.dumps(to_json(replace(made, files=tuple(files)))).encode()
        await in_thread(target.bucket.put, _key(target, made.number), text)
        self._last = made.number
        with suppress(StoreError):
            await in_thread(self._forget_older, target, made.number)
        await in_thread(self._note)

    def _forget_older(self, target: Target, number: int) -> None:
        numbers = [one for one in _numbers(target) if one <= number]
        needed = {one.name for kept in numbers[:KEPT] for one in _read(target, kept).files}
        for old in numbers[KEPT:]:
            target.bucket.delete(_key(target, old))
        for name in [name for name in self._files.names if name not in needed]:
            target.bucket.delete(target.key(name))
            self._files.remove(name)


def _name(host: str, path: str, size: int, moment: int) -> str:
    return f"{FOLDER}/files/{host}/{moment}-{size}/{path}"


def _key(target: Target, number: int) -> str:
    return target.key(f"{FOLDER}/{number:06}.json")


def _numbers(target: Target) -> list[int]:
    """Return the numbers of the checkpoints in a store, the newest first. Raises StoreError."""
    prefix, found = target.key(f"{FOLDER}/0"), []
    for one in target.bucket.objects(prefix):
        name = one.key[len(target.key(f"{FOLDER}/")) :]
        if name.endswith(".json") and name[:-5].isascii() and name[:-5].isdigit():
            found.append(int(name[:-5]))
    return sorted(found, reverse=True)


def _read(target: Target, number: int) -> Checkpoint:
    try:
        return from_json(Checkpoint, json.loads(target.bucket.get(_key(target, number))))
    except (Mismatch, ValueError):
        raise StoreError(f"{target.to}/{FOLDER}/{number:06}.json is no checkpoint") from None


def bring_newest(run: Path, job: Job) -> Checkpoint | None:
    """Bring the newest checkpoint that the store of a run has, if there is none as new here; return the
    newest one here then. Blocks. Raises StoreError, RecordError."""
    here = newest(run)
    if not job.output_to:
        return here[1] if here else None
    target = Target.of(job, run).in_step()
    numbers = _numbers(target)
    if not numbers or (here and here[1].number >= numbers[0]):
        return here[1] if here else None
    found = _read(target, numbers[0])
    new = run / FOLDER / NEW
    try:
        begin(new)
        for one in found.files:
            place = new / one.host / one.path
            place.parent.mkdir(parents=True, exist_ok=True)
            target.bucket.read_into(target.key(one.name), place, one.size)
            if sha256_of(place) != one.sum:
                raise StoreError(
                    f"{target.to}: {one.path} of checkpoint {found.number} is not what was written"
                )
            os.utime(place, ns=(one.time, one.time))
        conclude(new, found)
    except OSError as error:
        raise RecordError(new, error) from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return found
