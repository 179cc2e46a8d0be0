"""After a run that stores its outputs: write what is missing in the store, and bring them back."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ...fleet.fanout import Visited, visit
from ...records.receipt import Receipt, StoredOutputs
from ...records.run_folder import holder, read_as, write_record
from ...records.run_reader import RunReader
from ...spec.errors import HostError, RecordError, StoreError
from ...spec.files import sha256_of
from ...spec.frozen import frozen
from ...spec.model import Job, Layout, Request
from ...spec.typed_json import Mismatch, from_json
from ...transport.answers import is_inside
from ..concurrency import in_thread
from . import outputs, storing, to_store, unattended
from .choice import Choice
from .outputs import Listed
from .storing import Storing, Target

T = TypeVar("T")
#: Held by the process that stores the outputs of a run that has ended.
LOCK = "storing.lock"
#: Seconds between two looks at it.
LOOK = 0.2


@frozen
class Notes:
    """The folder of a run that has ended, for what is noted of its outputs in a store."""

    path: Path

    def read_as(self, kind: type[T], name: str) -> T | None:
        """Return a JSON file as a ``kind``; None when it is missing or damaged."""
        return read_as(kind, self.path / name)

    def write(self, name: str, value: Any) -> None:
        """Write a JSON file. Raises RecordError."""
        write_record(self.path / name, value)


async def store_rest(request: Request, layout: Layout, path: Path) -> StoredOutputs | None:
    """Write to the run's store what is not there yet, and note it in the receipt; return how far it is.

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
    own = await in_thread(to_store.own, path, found, (), done)
    plan = await there.plan(own)  # all names, before anything is written
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


async def restore(job: Job, run: Path, dest: Path) -> Restored:
    """Bring what the store of a job has of the run in a folder into another one, and compare it with
    its sums.

    Raises StoreError, RecordError.
    """
    return await in_thread(_restore, job, run, dest)


def _restore(job: Job, run: Path, dest: Path) -> Restored:
    target = Target.of(job, run)
    bucket = target.in_step().bucket
    found = _manifest(bucket.get(target.key(storing.MANIFEST)), target.to)
    files, size, failed = 0, 0, []
    for one in found.get("files") or ():
        path, length, known = _checked(one, target.to)
        place = dest / path
        try:
            if not (place.is_file() and sha256_of(place) == known):
                place.parent.mkdir(parents=True, exist_ok=True)
                part = place.with_name(f".{place.name[:200]}.part")
                bucket.read_into(target.key(path), part, length)
                if sha256_of(part) != known:
                    failed.append(f"{path}: the store has other bytes than were written")
                    part.unlink()
                    continue
                os.replace(part, place)
        except OSError as error:
            raise RecordError(place, error) from None
        except StoreError as error:
            failed.append(f"{path}: {error.message}")
            continue
        files, size = files + 1, size + length
    if found.get("whole") is True:
        return Restored(files, size, not failed, tuple(failed))
    more = _restore_archives(target, found, dest)
    return Restored(
        files + more.files, size + more.bytes, more.whole and not failed, (*failed, *more.failed)
    )


def _restore_archives(target: Target, found: Mapping[str, Any], dest: Path) -> Restored:
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
        mine = {str(one.get("path")) for one in names if one.get("host") == host}
        paths = {}
        for one in archive.files:
            if one.path not in mine:
                paths[one.path] = (
                    outputs.marked(one.path, host, used) if one.path in used else one.path
                )
                used.add(paths[one.path])
        try:
            brought = unattended.bring(target, archive, dest, paths)
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


def _checked(one: Any, to: str) -> tuple[str, int, str]:
    """Return path, size and sum of a file of a manifest. Raises StoreError."""
    try:
        found = from_json(_File, one)
    except Mismatch:
        found = _File("", 0, "")
    if not is_inside(found.path) or found.size < 0:
        raise StoreError(f"{to}/{storing.MANIFEST} names a file that leads elsewhere")
    return found.path, found.size, found.sha256
