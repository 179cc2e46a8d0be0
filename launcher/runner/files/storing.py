"""Writes the outputs of a run to an object store: hosts send them there by URLs that are signed here.

``PREFIX/.launcher.json`` says what is whole. It is written before the run starts, with ``whole: false``,
and last, once everything else is there: with the run's ending, and the size and sum of every file.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ...records.receipt import Receipt, StoredOutputs
from ...records.stored import FILE, UNSTORED, Alone, Begun, Stored, StoredFile
from ...records.stored_files import FILES, StoredFiles
from ...spec import data
from ...spec.errors import BadAnswer, HostError, LauncherError, StoreError
from ...spec.frozen import frozen
from ...spec.model import Job
from ...spec.typed_json import to_json
from ...transport.agent_client import Agent
from ...transport.answers.data import DataPut, DataSum
from ..concurrency import in_thread, together
from ..credentials import LOOKED_UP_EVERY
from .outputs import Listed
from .store_progress import OnStored, Uploading
from .storing_target import Target as Target
from .view import marked

if TYPE_CHECKING:
    from .unattended import Archive


T = TypeVar("T")
NO_HEADERS: Mapping[str, str] = {}
#: The name of the manifest below the prefix.
MANIFEST = ".launcher.json"
#: Files above this are written in parts of it, or of more where they would be more than MOST_PARTS.
PART, MOST_PARTS = 64 << 20, 9000
#: Parts and bytes of one request.
MOST, MOST_BYTES = 64, 256 << 20
#: Seconds for the answer, and bytes that the slowest link carries in one.
PATIENCE, BYTES_A_SECOND = 300.0, 250e3
#: Hosts that write at once: what passes here is only who writes what.
AT_ONCE = 32
#: Seconds for which the URL of a part is good.
GOOD_FOR = 3600


class Folder(Protocol):
    """Where it is noted what has been stored."""

    @property
    def path(self) -> Path: ...
    def read_as(self, kind: type[T], name: str) -> T | None: ...
    def write(self, name: str, value: object) -> None: ...


@frozen
class Part:
    """A part of a file on a host, and where it goes: ``below`` is its path in ``folder``, and ``path``
    the one among the outputs (see :attr:`~.outputs.Listed.located`)."""

    folder: str
    below: str
    path: str
    size: int
    time: int
    name: str
    offset: int = 0
    number: int = 0  # of a file in parts, from 1


class Storing:
    """Brings the outputs of one run to its store, and notes how far that is."""

    def __init__(self, folder: Folder, job: Job, run: Path, files: Path | None = None) -> None:
        self._folder, self._job, self._path, self._run = folder, job, run, run.name
        self._target: Target | None = None
        self._found = 0.0
        noted = folder.read_as(Stored, FILE)
        self.has_begun = noted is not None
        noted = noted or Stored(data.of_run(job.output_to, run.name))
        self._stored = replace(noted, files=())
        self._files = StoredFiles(files or folder.path / FILES)
        self._files.add(noted.files)  # of a version that noted them there
        self._noting = threading.Lock()
        self._asking, self._opening = asyncio.Lock(), asyncio.Lock()
        self._archives: Mapping[str, Archive] | None = None  # once the store was asked
        self.on_stored: OnStored = lambda host, done, total: None

    @property
    def stored(self) -> Stored:
        """What is there."""
        return replace(self._stored, files=tuple(self._files))

    @property
    def files(self) -> Iterable[StoredFile]:
        """The files that are there: read it in a thread, as these may be many."""
        return self._files

    @property
    def missing(self) -> Mapping[str, str]:
        """What is not there, by host, and why."""
        return self._stored.missing

    @property
    def summary(self) -> StoredOutputs:
        """What a receipt says of it."""
        it, count = self._stored, len(self._files)
        return StoredOutputs(it.to, count, self._files.total, it.whole, it.missing, it.alone)

    async def begin(self) -> None:
        """Make sure that the store takes something. Raises StoreError."""
        began: dict[str, Any] = {"run": self._run, "whole": False, "started": time.time()}
        await self._put_manifest(began)
        await in_thread(self._note)
        self.has_begun = True

    async def plan(
        self, found: Mapping[str, Listed], over: Sequence[StoredFile] = ()
    ) -> dict[str, list[Part]]:
        """Return what each host has to write, and under which names: in the order of the hosts, so that
        it does not matter which of them is faster. ``over`` are names that hosts take over from others
        (see :func:`.to_store.handed_over`); they are theirs once they have written them."""
        plan = await in_thread(self._plan, found, over)
        for host, parts in plan.items():
            _, size = await in_thread(self._left, parts)
            self.on_stored(host, 0, size)
        return plan

    def _left(self, parts: Sequence[Part]) -> tuple[list[Part], int]:
        """Return what is not there yet, and its bytes. There may be many: to be asked in a thread."""
        left = [one for one in parts if not self._has(one)]
        return left, sum(one.size for one in left)

    async def store_all(
        self, hosts: Sequence[tuple[str, Agent, Listed]], over: Sequence[StoredFile] = ()
    ) -> None:
        """Have hosts write their files, many at once; what cannot be written is noted. ``over`` is that
        of ``plan``."""
        self._archives = None  # a host may have stored alone since this was last done
        plan = await self.plan({host: listed for host, _, listed in hosts}, over)
        steps = (self.store(host, agent, plan[host]) for host, agent, _ in hosts)
        await together(steps, limit=AT_ONCE)

    async def store(self, host: str, agent: Agent, parts: Sequence[Part]) -> None:
        """Write all files of a host that are not there yet; what cannot be written is noted.

        Large files that the host has stored with nobody in touch are copied by the store.
        """
        missing = ""
        parts, size = await in_thread(self._left, parts)
        moving = Uploading(host, size, self.on_stored)
        try:
            with moving.heard(agent):
                await self._copy(host, agent, parts, moving)
                await self._store(host, agent, parts, moving)
            with suppress(HostError):  # then it goes on until it hears that it need not
                await agent.ask("attended", run=self._run)
        except LauncherError as error:
            missing = error.message
        self.miss(host, missing)

    def note_alone(self, alone: Mapping[str, Alone]) -> None:
        """Note what hosts stored with nobody in touch, by what they say."""
        if alone:
            self._note(alone={**self._stored.alone, **alone})

    def miss(self, host: str, why: str) -> None:
        """Note why files of a host are not there; "" if they are."""
        missing = {name: text for name, text in self._stored.missing.items() if name != host}
        self._note(missing={**missing, **({host: why} if why else {})})

    async def conclude(self, ending: Mapping[str, Any]) -> None:
        """Write the manifest, with how the run ended; a store that does not take it is noted."""
        missing = dict(self._stored.missing)
        whole = {**ending, "run": self._run, "whole": not missing, "missing": missing}
        try:
            await self._put_manifest(whole, with_files=True)
            await self._abort_all(await self._opened())
        except StoreError as error:
            self._note(missing={**missing, "this machine": error.message})
            return
        if not missing:
            await self._delete_archives()
        self._note(whole=not missing)

    # -- what hosts have stored with nobody in touch

    async def _archive(self, host: str) -> Archive | None:
        """Return what a host has stored, if anything. Raises StoreError."""
        from . import unattended

        async with self._asking:
            if self._archives is None:
                try:
                    self._archives = await in_thread(unattended.archives, await self._opened())
                except StoreError:
                    self._archives = {}  # everything is written again
        found = self._archives.get(host)
        if found and found.parts:
            alone = Alone(found.time, len(found.files), found.bytes, found.missing_files)
            self.note_alone({host: alone})
        return found

    async def _copy(
        self, host: str, agent: Agent, parts: Sequence[Part], moving: Uploading
    ) -> None:
        """Have the store copy large files out of what a host has stored, as far as it has these now."""
        from . import unattended

        archive, target = await self._archive(host), await self._opened()
        if archive is None or not target.bucket.can_copy:
            return
        known = {one.path: one for one in archive.files if one.size >= unattended.LARGE}
        for part in parts:
            file = known.get(part.path)
            if file is None or (file.size, file.time) != (part.size, part.time) or self._has(part):
                continue
            if await self._sum(agent, part) != file.sha256:
                continue
            try:
                await self._copy_one(target, part, list(archive.ranges(file)))
            except StoreError:
                return  # the host writes it
            done = StoredFile(part.name, host, part.path, part.size, part.time, file.sha256)
            await self._add([done])
            moving.add(part.size)

    async def _copy_one(
        self, target: Target, part: Part, ranges: Sequence[tuple[str, int, int]]
    ) -> None:
        key = target.key(part.name)
        async with self._in_parts(target, key) as (upload, tags):
            for number, (name, first, last) in enumerate(ranges, 1):
                words = key, upload, number, target.key(name), first, last
                tags[number] = await in_thread(target.bucket.copy_part, *words)

    async def _delete_archives(self) -> None:
        """Delete what hosts have stored by themselves: everything is where it belongs."""
        from . import unattended

        with suppress(StoreError):  # some credentials may not delete
            await in_thread(unattended.delete, await self._opened(), self._files.names)

    async def _sum(self, agent: Agent, one: Part) -> str:
        found = await agent.answer(
            DataSum,
            "data",
            patience=PATIENCE + one.size / BYTES_A_SECOND,
            do="sum",
            run=self._run,
            folder=one.folder,
            path=one.below,
        )
        return found.sum

    # -- one host

    async def _store(
        self, host: str, agent: Agent, parts: Sequence[Part], moving: Uploading
    ) -> None:
        target = await self._opened()
        parts, _ = await in_thread(self._left, parts)
        small = [one for one in parts if one.size <= PART]
        for batch in _batches(small):
            await self._put_small(host, agent, target, batch)
            moving.add(sum(one.size for one in batch))
        for one in parts:
            if one.size > PART:
                await self._put_large(host, agent, target, one, moving)

    def _plan(
        self, found: Mapping[str, Listed], over: Sequence[StoredFile]
    ) -> dict[str, list[Part]]:
        """Return the files of hosts with their names in the store: those that another host has under
        the same path get the host's name into theirs."""
        known = {(one.host, one.path): one.name for one in (*self._files, *over)}
        used = {*known.values(), MANIFEST}
        plan: dict[str, list[Part]] = {}
        for host, listed in found.items():
            parts = plan[host] = []
            for folder, below, (path, size, mtime) in sorted(
                listed.located, key=lambda one: one[2]
            ):
                name = known.get((host, path))
                if name is None:
                    name = marked(path, host, used) if path in used else path
                used.add(name)
                parts.append(Part(folder, below, path, size, mtime, name))
        return plan

    def _has(self, part: Part) -> bool:
        one = self._files.get(part.name)
        return one is not None and (one.size, one.time) == (part.size, part.time)

    async def _put_small(
        self, host: str, agent: Agent, target: Target, batch: Sequence[Part]
    ) -> None:
        urls = [target.bucket.sign("PUT", target.key(one.name), {}, GOOD_FOR) for one in batch]
        lengths, said = [one.size for one in batch], target.bucket.put_headers
        answer = await _put(agent, self._run, batch, urls, lengths, said)
        done = [
            StoredFile(one.name, host, one.path, one.size, one.time, result[1])
            for one, result in zip(batch, answer.results, strict=True)
            if not result[2]
        ]
        await self._add(done)
        _require_all(batch, answer)

    async def _put_large(
        self, host: str, agent: Agent, target: Target, one: Part, moving: Uploading
    ) -> None:
        key, length = target.key(one.name), max(PART, -(-one.size // MOST_PARTS))
        source = Begun(host, one.path, one.size, one.time, length)
        async with self._in_parts(target, key, source) as (upload, tags):
            offsets = enumerate(range(0, one.size, length), start=1)
            parts = [replace(one, offset=at, number=n) for n, at in offsets if n not in tags]
            moving.add(sum(source.size_of(number) for number in tags))
            for batch in _groups(parts, max(1, MOST_BYTES // length)):
                to = target.bucket
                urls = [to.part_url(key, upload, part.number, GOOD_FOR) for part in batch]
                lengths = [source.size_of(part.number) for part in batch]
                answer = await _put(agent, self._run, batch, urls, lengths)
                _require_all(batch, answer)
                for part, result in zip(batch, answer.results, strict=True):
                    tags[part.number] = result[0]
                moving.add(sum(lengths))
            found = await self._sum(agent, one)
        await self._add([StoredFile(one.name, host, one.path, one.size, one.time, found)])

    @asynccontextmanager
    async def _in_parts(
        self, target: Target, key: str, source: Begun | None = None
    ) -> AsyncIterator[tuple[str, dict[int, str]]]:
        """Write an object in parts, whose tags the block adds by their numbers.

        What an earlier try began from the same ``source`` is continued, and the tags of its parts are
        there; all else that was begun is deleted. So is what fails here, but for a host that is gone:
        the next try continues, and `conclude` leaves nothing for ever.
        """
        upload, tags = await self._continued(target, key, source)
        try:
            if not tags:
                await self._abort(target, key)
                upload = await in_thread(self._begin, target, key, source)
            yield upload, tags
            ordered = [tags[number] for number in sorted(tags)]
            await in_thread(target.bucket.end_upload, key, upload, ordered)
        except BaseException as error:
            if source is None or not isinstance(error, HostError):
                with suppress(LauncherError):
                    await asyncio.shield(self._abort(target, key))
            raise
        self._forget_upload(key)

    async def _continued(
        self, target: Target, key: str, source: Begun | None
    ) -> tuple[str, dict[int, str]]:
        """Return the upload that an earlier try began from this very source, and the tags of its parts
        that are there, by number: none if nothing is."""
        upload = self._stored.begun.get(key)
        if source is None or upload is None or self._stored.begun_from.get(key) != source:
            return "", {}
        try:
            found = await in_thread(target.bucket.parts, key, upload)
        except StoreError:  # some credentials may not list parts, and some stores cannot
            return "", {}
        known = {
            number: tag
            for number, (tag, size) in found.items()
            if size == source.size_of(number) and tag
        }
        return upload, known

    def _begin(self, target: Target, key: str, source: Begun | None) -> str:
        """Begin to write an object in parts, and note it, whether anybody still waits for it or not."""
        upload = target.bucket.begin_upload(key)
        with self._noting:
            begun = {**self._stored.begun, key: upload}
            came_from = {**self._stored.begun_from, key: source}
            known = {name: it for name, it in came_from.items() if it is not None}
            self._write(begun=begun, begun_from=known)
        return upload

    async def _abort(self, target: Target, key: str) -> None:
        """Delete what was begun of an object; it stays noted where the store does not do so now."""
        if upload := self._stored.begun.get(key):
            with suppress(StoreError):
                await in_thread(target.bucket.abort_upload, key, upload)
                self._forget_upload(key)

    async def _abort_all(self, target: Target) -> None:
        """Delete what was begun of any object of the run: a launcher that was killed may not have noted
        it. Raises StoreError."""
        for key in list(self._stored.begun):
            await self._abort(target, key)
        with suppress(StoreError):  # some credentials may not list uploads
            for key, upload in await in_thread(target.bucket.uploads, target.prefix):
                await in_thread(target.bucket.abort_upload, key, upload)

    def _forget_upload(self, key: str) -> None:
        with self._noting:
            begun, came_from = dict(self._stored.begun), dict(self._stored.begun_from)
            begun.pop(key, None)
            came_from.pop(key, None)
            self._write(begun=begun, begun_from=came_from)

    # -- the store, and the notes

    async def _opened(self) -> Target:
        """Return the store, with its clock, and with credentials as they are now: a run may outlast
        those that it began with. Raises StoreError."""
        async with self._opening:
            if self._target is None or time.monotonic() > self._found + LOOKED_UP_EVERY:
                target = await in_thread(Target.of, self._job, self._path)
                self._target = await in_thread(target.in_step)
                self._found = time.monotonic()
            return self._target

    async def _put_manifest(self, value: Mapping[str, Any], with_files: bool = False) -> None:
        target = await self._opened()
        await in_thread(self._put, target, value, with_files)

    def _put(self, target: Target, value: Mapping[str, Any], with_files: bool) -> None:
        whole = {"launcher": 1, **value}
        if with_files:
            whole["files"] = [
                {"path": one.name, "size": one.size, "sha256": one.sum, "host": one.host}
                for one in sorted(self._files, key=lambda one: one.name)
            ]
        target.bucket.put(target.key(MANIFEST), json.dumps(whole, indent=1).encode())

    async def _add(self, files: Sequence[StoredFile]) -> None:
        self._files.add(files)
        await in_thread(self._files.save)

    def _note(self, **changes: Any) -> None:
        with self._noting:
            self._write(**changes)

    def _write(self, **changes: Any) -> None:
        """Note everything but files, which costs the same however many these are."""
        self._files.save()
        self._stored = replace(self._stored, **changes)
        if not self._stored.whole:
            self._folder.write(UNSTORED, {})
        self._folder.write(FILE, to_json(self._stored))
        if self._stored.whole:
            (self._folder.path / UNSTORED).unlink(missing_ok=True)


def of_job(folder: Folder, job: Job) -> Storing | None:
    """Return what stores the outputs of a job; None if it names no store."""
    return Storing(folder, job, folder.path) if job.output_to else None


def ending_of(final: Receipt) -> dict[str, Any]:
    """Return what a manifest says of a run's ending."""
    return {
        "status": final.status,
        "reason": final.reason,
        "exit_code": final.exit_code,
        "started": final.started,
        "seconds": final.seconds,
        "hosts": [host.host for host in final.hosts],
    }


async def _put(
    agent: Agent,
    run: str,
    parts: Sequence[Part],
    urls: Sequence[str],
    lengths: Sequence[int],
    headers: Mapping[str, str] = NO_HEADERS,
) -> DataPut:
    """Have a host write parts, with the headers that their store wants. Raises HostError."""
    asked = [
        {
            "folder": one.folder,
            "path": one.below,
            "size": one.size,
            "offset": one.offset,
            "length": length,
            "url": url,
            "headers": dict(headers),
        }
        for one, url, length in zip(parts, urls, lengths, strict=True)
    ]
    patience = PATIENCE + sum(lengths) / BYTES_A_SECOND
    answer = await agent.answer(DataPut, "data", patience=patience, do="put", run=run, pieces=asked)
    if len(answer.results) != len(parts):
        raise BadAnswer(agent.host.name, "it has written more or fewer files than asked for")
    return answer


def _require_all(parts: Sequence[Part], answer: DataPut) -> None:
    """Raise StoreError for the first part that was not written."""
    failed = [(one, its) for one, its in zip(parts, answer.results, strict=True) if its[2]]
    if failed:
        one, (_, _, _, text) = failed[0]
        more = f", and {len(failed) - 1} more" if failed[1:] else ""
        raise StoreError(f"{one.path} cannot be written to the store: {text}{more}")


def _batches(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield small files in groups of so many, and of so many bytes."""
    batch: list[Part] = []
    size = 0
    for one in parts:
        if batch and (len(batch) >= MOST or size + one.size > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(one)
        size += one.size
    if batch:
        yield batch


def _groups(parts: Sequence[Part], count: int) -> Iterator[Sequence[Part]]:
    return (parts[at : at + count] for at in range(0, len(parts), count))
