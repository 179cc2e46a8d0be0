"""After a run that stores its outputs: write what is missing in the store, and bring them back."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ...fleet.fanout import Visited, visit
from ...records import events as ev
from ...records.receipt import Receipt, StoredOutputs
from ...records.record_files import read_as, write_record
from ...records.run_lock import holder
from ...records.run_reader import RunReader
from ...spec.errors import HostError, RecordError, StoreError
from ...spec.files import sha256_of
from ...spec.frozen import frozen
from ...spec.model import Job, Layout, Request
from ...spec.typed_json import Mismatch, from_json
from ...transport.answers.outputs import is_inside
from ..concurrency import in_own_thread, in_thread, in_threads
from ..listeners import OnEvent, ignore_event
from . import outputs, storing, to_store, unattended
from .choice import Choice
from .destination import held
from .outputs import Listed
from .store_progress import Downloading, part_of
from .storing import Storing, Target
from .view import marked

T = TypeVar("T")
#: Held by the process that stores the outputs of a run that has ended.
LOCK = "storing.lock"
#: Seconds between two looks at it.
LOOK = 0.2
#: Files that are brought from a store at once, and seconds between two events about them.
AT_ONCE, EVERY = 8, 0.25


@frozen
class Notes:
    """The folder of a run that has ended, for what is noted of its outputs in a store."""

    path: Path

    def read_as(self, kind: type[T], name: str) -> T | None:
        """Return a JSON file as a ``kind``; None when it is missing or damaged."""
        return read_as(kind, self.path / name)

    def write(self, name: str, value: object) -> None:
        """Write a JSON file. Raises RecordError."""
        write_record(self.path / name, value)


async def store_rest(
    request: Request, layout: Layout, path: Path, on_event: OnEvent = ignore_event
) -> StoredOutputs | None:
    """Write to the run's store what is not there yet, and note it in the receipt; return how far it is.
    ``on_event`` gets StageStarted once there is something to do, and StoreProgressed.

    None for a run that stores nothing, or that somebody follows, who stores it at the end. One that
    nobody follows may have ended or not: nothing is written. Raises RecordError, StoreError.
    """
    receipt = await in_thread(RunReader(path).receipt)
    there = storing.of_job(Notes(path), request.job)
    if there is None:
        return None
    if receipt is None:
        return there.summary if holder(path) is None else None
    if receipt.stored and receipt.stored.whole:
        return receipt.stored
    async with _alone(path):
        receipt = await in_thread(RunReader(path).receipt) or receipt
        if receipt.stored and receipt.stored.whole:
            return receipt.stored
        there = storing.of_job(Notes(path), request.job) or there
        on_event(ev.StageStarted(time.time(), "store"))
        there.on_stored = lambda *so_far: on_event(ev.StoreProgressed.so_far(time.time(), *so_far))
        return await _store_rest(request, layout, path, there, receipt)


@asynccontextmanager
async def _alone(path: Path) -> AsyncIterator[None]:
    """Wait until no other process of this machine stores the outputs of a run."""
    lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(LOOK)
        yield
    finally:
        os.close(lock)


async def _store_rest(
    request: Request, layout: Layout, path: Path, there: Storing, receipt: Receipt
) -> StoredOutputs:
    choice = Choice.stored(request.job)

    async def look(visited: Visited) -> Listed:
        agent = await visited.agent()
        try:
            return await outputs.listed(agent, path.name, choice)
        finally:
            await agent.close()

    async def write(visited: Visited) -> None:
        agent = await visited.agent()
        try:
            await there.store(visited.host, agent, plan[visited.host])
        finally:
            await agent.close()

    done = {host.host for host in receipt.hosts} if receipt.stored else set()
    done -= there.missing.keys()
    nodes = [node for node in layout.nodes if node.host.name not in done]
    found: dict[str, Listed] = {}
    for host, answer in (await visit(request, layout, look, nodes) if nodes else {}).items():
        if isinstance(answer, HostError):
            there.miss(host, answer.message)
        else:
            found[host] = answer
    own = await in_thread(to_store.own, path, found, (), done, there.files)
    current = [node.host.name for node in layout.nodes]
    over = await in_thread(to_store.handed_over, path, own, current, there.files)
    plan = await there.plan(own, over)  # all names, before anything is written
    nodes = [node for node in nodes if node.host.name in plan]
    for host, error in (await visit(request, layout, write, nodes) if nodes else {}).items():
        if isinstance(error, HostError):
            there.miss(host, error.message)
    there.miss("this machine", "")
    await there.conclude(storing.ending_of(receipt))
    return await in_thread(_note, path, receipt, there.summary)


def _note(path: Path, receipt: Receipt, stored: StoredOutputs) -> StoredOutputs:
    write_record(path / "receipt.json", replace(receipt, stored=stored).to_record())
    return stored


# -- bringing it back


@frozen
class Restored:
    """What came from a store: files, bytes, whether the store has all, and what could not be read."""

    files: int
    bytes: int
    whole: bool
    failed: tuple[str, ...] = ()


async def restore(job: Job, run: Path, dest: Path, on_event: OnEvent = ignore_event) -> Restored:
    """Bring what the store of a job has of the run in a folder into another one, and compare it with
    its sums. ``on_event`` gets StoreProgressed; a caller that is cancelled ends it.

    Raises StoreError, InputError, RecordError.
    """
    loop, last = asyncio.get_running_loop(), 0.0

    def tell(host: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            event = ev.StoreProgressed.so_far(time.time(), host, done, total)
            loop.call_soon_threadsafe(on_event, event)

    with held(dest, run):
        return await in_own_thread(
            lambda going_on: _restore(job, run, dest, Downloading(tell, going_on))
        )


def _restore(job: Job, run: Path, dest: Path, coming: Downloading) -> Restored:
    target = Target.of(job, run)
    bucket = target.in_step().bucket
    found = _manifest(bucket.get(target.key(storing.MANIFEST)), target.to)
    checked = [_checked(one, target.to) for one in found.get("files") or ()]
    wanted = list({one.path: one for one in checked}.values())  # two threads write no file together
    coming.expect(sum(one.size for one in wanted))

    def bring(one: _File) -> str:
        """Return why a file cannot be brought; "" if it is there. Raises RecordError."""
        try:
            return bring_to(one, dest / one.path)
        except OSError as error:
            raise RecordError(dest / one.path, error) from None

    def bring_to(one: _File, place: Path) -> str:
        if place.is_file() and sha256_of(place) == one.sha256:
            coming.expect(-one.size)
            return ""
        place.parent.mkdir(parents=True, exist_ok=True)
        part = part_of(place)
        have = part.stat().st_size if part.is_file() else 0
        if have == one.size > 0 and sha256_of(part) == one.sha256:
            coming.expect(-one.size)
            os.replace(part, place)
            return ""
        if have < one.size:
            coming.expect(-have)  # it is continued
        try:
            bucket.read_into(target.key(one.path), part, one.size, coming.came)
        except StoreError as error:
            return f"{one.path}: {error.message}"
        if sha256_of(part) != one.sha256:
            part.unlink()
            return f"{one.path}: the store has other bytes than were written"
        os.replace(part, place)
        return ""

    problems = in_threads(bring, wanted, AT_ONCE)
    failed = tuple(filter(None, problems))
    here = [one for one, problem in zip(wanted, problems, strict=True) if not problem]
    files, size = len(here), sum(one.size for one in here)
    if found.get("whole") is True:
        return Restored(files, size, not failed, failed)
    more = _restore_archives(target, found, dest, coming)
    return Restored(
        files + more.files, size + more.bytes, more.whole and not failed, (*failed, *more.failed)
    )


def _restore_archives(
    target: Target, found: Mapping[str, Any], dest: Path, coming: Downloading
) -> Restored:
    """Bring what hosts have stored with no launcher in touch, and what nobody has put in its place yet.
    Raises StoreError, RecordError."""
    archives = unattended.archives(target)
    names = [one for one in found.get("files") or () if isinstance(one, Mapping)]
    used = {str(one.get("path")) for one in names}
    missing = found.get("missing") or {}
    complete = {host for host in found.get("hosts") or () if host not in missing}
    hosts = sorted({host for one in archives.values() for host in (*one.hosts, one.host)})
    files, size, failed = 0, 0, []
    for host in hosts:
        if host in complete:
            continue
        archive = archives.get(host)
        if archive is None:
            failed.append(f"{host}: it has stored nothing")
            continue
        if archive.problem:
            failed.append(f"{host}: {archive.problem}")
            continue
        if not archive.parts:
            failed.append(f"{host}: it began to store its outputs, and did not finish")
            continue
        mine = {(one.get("path"), one.get("sha256")) for one in names if one.get("host") == host}
        paths = {}
        for one in archive.files:
            if (one.path, one.sha256) not in mine:
                paths[one.path] = marked(one.path, host, used) if one.path in used else one.path
                used.add(paths[one.path])
        try:
            brought = unattended.bring(target, archive, dest, paths, coming)
        except OSError as error:
            raise RecordError(dest, error) from None
        files, size = files + brought.files, size + brought.bytes
        failed += brought.failed
        failed += [f"{host}: {path} was not stored: {why}" for path, why in archive.missing]
        if (left := archive.missing_files - len(archive.missing)) > 0:
            failed.append(f"{host}: {left} more files were not stored")
    return Restored(files, size, bool(hosts) and not failed, tuple(failed))


def _manifest(data: bytes, to: str) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("files", []), list):
        raise StoreError(f"{to}/{storing.MANIFEST} is no manifest of launcher")
    return found


@frozen
class _File:
    path: str
    size: int
    sha256: str


def _checked(one: Any, to: str) -> _File:
    """Return a file of a manifest. Raises StoreError."""
    try:
        found = from_json(_File, one)
    except Mismatch:
        found = _File("", 0, "")
    if not is_inside(found.path) or found.size < 0:
        raise StoreError(f"{to}/{storing.MANIFEST} names a file that leads elsewhere")
    return found
