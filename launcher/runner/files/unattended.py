"""What hosts store of a run's outputs while no launcher is in touch, and the URLs that they get for it.

Names and sizes of outputs are not known when URLs are signed. So each host has an archive below
``.unattended/HOST/``: parts of a tar archive, and ``manifest.json``, which is written last and says
where in the archive each file is, with its sum. A launcher that comes back copies or writes the files to
where they belong, and deletes the archives.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from pathlib import Path
from typing import Any, BinaryIO

from ...spec.errors import HostError, LauncherError, StoreError
from ...spec.files import sha256_of
from ...spec.frozen import frozen
from ...spec.model import AUTO_BYTES
from ...spec.typed_json import Mismatch, from_json
from ...transport.answers.outputs import is_inside
from ..concurrency import in_thread
from ..context import RunContext
from ..host_session import HostSession, Phase
from ..host_set import HostSet
from .store_progress import Downloading, part_of
from .storing_target import Target

#: Folder of archives below the prefix of a run, and the name of the manifest of each.
FOLDER, MANIFEST = ".unattended", "manifest.json"
#: Parts that a host may write: of 64 MiB each, and of up to 4 GiB where that would not be enough.
PARTS = 128
#: Seconds for which URLs are good: the longest time of S3 and of Google.
GOOD_FOR = 7 * 24 * 3600
#: Seconds after which hosts get new ones; where credentials have a session, which may end at any time;
#: and after a store or a host refused.
RENEWED, OF_SESSION, AGAIN = 6 * 3600.0, 600.0, 60.0
#: Seconds between two looks at which hosts have none.
LOOK = 1.0
#: Files from this size on are copied out of an archive by the store. Also in agent/relay/unattended.py.
LARGE = 8 << 20
#: Where a part is while it is read, in the folder that files are brought to.
SPOOL = ".unattended.part"
#: Longest name of a host in a manifest.
LONGEST = 255
_PART = re.compile(r"part-\d{4}\Z", re.A)


# -- leaving URLs with hosts


class Leaving:
    """Leaves URLs with the supervisors of a run, in memory only, for as long as it is followed."""

    def __init__(self, context: RunContext, hosts: HostSet) -> None:
        self._context, self._hosts = context, hosts
        job = context.job
        self._wanted = bool(job.output_to) and job.output_unattended
        self._known: dict[str, set[int]] = {}  # by host: the supervisors that have had URLs
        #: By host: of which supervisor of a run on which hosts, and when it is due.
        self._due: dict[str, tuple[int, tuple[str, ...], float]] = {}

    async def every(self) -> None:
        """Leave URLs with hosts that have none, or old ones, until cancelled."""
        while self._wanted:
            if due := [one for one in self._hosts.active if self._is_due(one)]:
                with suppress(LauncherError):
                    await self._leave(due)
            await asyncio.sleep(LOOK)

    def _is_due(self, session: HostSession) -> bool:
        if session.phase is not Phase.FOLLOWED or session.lost or session.agent.closed.done():
            return False
        number, hosts, moment = self._due.get(session.name, (-1, (), 0.0))
        is_known = number == session.supervisions and hosts == self._of_run
        return not is_known or time.monotonic() >= moment

    @property
    def _of_run(self) -> tuple[str, ...]:
        """The hosts of the run: once it has begun, those that it has chosen."""
        return tuple(one.name for one in self._hosts.active)

    async def _leave(self, sessions: Sequence[HostSession]) -> None:
        now = time.monotonic()
        hosts = self._of_run
        self._due |= {one.name: (one.supervisions, hosts, now + AGAIN) for one in sessions}
        target = await in_thread(self._target)
        known = target.bucket.credentials
        again = OF_SESSION if known and known.token else RENEWED
        for session in sessions:
            number = session.supervisions
            place = f"{FOLDER}/{session.name}/{secrets.token_hex(4)}"
            request = await in_thread(self._request, target, session.name, hosts, place)
            with suppress(HostError):  # of a supervisor of an older release, too
                await session.agent.ask("unattended", **request)
                self._due[session.name] = (number, hosts, time.monotonic() + again)
                if number not in self._known.setdefault(session.name, set()):
                    self._known[session.name].add(number)
                    await in_thread(_forget, target, session.name)

    def _target(self) -> Target:
        """Return the store, with its clock, and with credentials as they are now. Raises StoreError."""
        return Target.of(self._context.job, self._context.folder.path).in_step()

    def _request(
        self, target: Target, host: str, hosts: Sequence[str], place: str
    ) -> dict[str, Any]:
        """Return what a supervisor gets. It contains secrets."""
        bucket = target.bucket

        def url(name: str) -> str:
            return bucket.sign("PUT", target.key(f"{place}/{name}"), {}, GOOD_FOR)

        return {
            "run": self._context.name,
            "host": host,
            "hosts": list(hosts),
            "paths": list(self._context.job.output_paths),
            "elsewhere": list(self._context.job.outputs_elsewhere),
            "auto": AUTO_BYTES if self._context.job.brings_written else 0,
            "urls": [url(f"part-{number:04}") for number in range(1, PARTS + 1)],
            "manifest": url(MANIFEST),
            "headers": dict(bucket.put_headers),
            "seconds": GOOD_FOR,
        }


def _forget(target: Target, host: str) -> None:
    """Delete what a host stored by itself in an earlier attempt: its supervisor lives, so the run has
    not ended like that."""
    with suppress(StoreError):  # some credentials may not
        for one in list(target.bucket.objects(target.key(f"{FOLDER}/{host}/"))):
            target.bucket.delete(one.key)


# -- what they have stored


@frozen
class File:
    """A file in an archive: where its bytes begin there, and its state on the host."""

    path: str
    size: int
    time: int
    sha256: str
    at: int


@frozen
class Part:
    """A part of an archive, an object."""

    name: str
    size: int


@frozen
class Archive:
    """What a host has stored, below ``place`` of the prefix. Without parts, it has only begun, or
    ``problem`` says why its manifest is none."""

    run: str
    host: str
    time: float
    whole: bool
    hosts: tuple[str, ...] = ()
    attempt: int = 0
    parts: tuple[Part, ...] = ()
    files: tuple[File, ...] = ()
    missing: tuple[tuple[str, str], ...] = ()
    missing_files: int = 0
    place: str = ""
    problem: str = ""
    ending: Mapping[str, object] = field(default_factory=dict)

    @property
    def age(self) -> tuple[int, bool, float]:
        """What grows from an archive to one that takes its place."""
        return self.attempt, bool(self.parts), self.time

    @property
    def bytes(self) -> int:
        """The sizes of its files."""
        return sum(one.size for one in self.files)

    def ranges(self, file: File) -> Iterator[tuple[str, int, int]]:
        """Yield where the bytes of a file are: an object below the prefix, first and last byte in it."""
        begin = 0
        for part in self.parts:
            first, last = max(file.at, begin), min(file.at + file.size, begin + part.size)
            if first < last:
                yield f"{self.place}/{part.name}", first - begin, last - begin - 1
            begin += part.size


def archives(target: Target) -> dict[str, Archive]:
    """Return the newest archive of each host. What one host has written keeps no other's from being
    read. Blocks. Raises StoreError."""
    found: dict[str, Archive] = {}
    folder = target.key(f"{FOLDER}/")
    for one in target.bucket.objects(folder):
        words = one.key[len(folder) :].split("/")
        if len(words) != 3 or words[-1] != MANIFEST:
            continue
        host, place = words[0], f"{FOLDER}/{words[0]}/{words[1]}"
        data = target.bucket.get(one.key)
        try:
            archive = _archive(data, place, host)
        except ValueError as error:
            archive = Archive("", host, 0.0, False, place=place, problem=str(error))
        before = found.get(archive.host)
        if before is None or archive.age > before.age:
            found[archive.host] = archive
    return found


def _archive(data: bytes, place: str, host: str) -> Archive:
    """Return what a host has written about its archive. Raises ValueError."""
    try:
        values = json.loads(data)
        archive = from_json(Archive, {**values, "place": place, "problem": ""})
    except (ValueError, TypeError, Mismatch, RecursionError):
        raise ValueError(f"{place}/{MANIFEST} is no manifest of launcher") from None
    total = sum(part.size for part in archive.parts)
    parts = all(_PART.match(part.name) and part.size >= 0 for part in archive.parts)
    files = all(
        is_inside(one.path) and one.size >= 0 and 0 <= one.at <= total - one.size
        for one in archive.files
    )
    names = all(one.isprintable() and len(one) <= LONGEST for one in (*archive.hosts, archive.host))
    if not (parts and files and names and archive.host == host):
        raise ValueError(f"{place}/{MANIFEST} names what is not this host's")
    return archive


def delete(target: Target, but: Sequence[str]) -> None:
    """Delete all archives, but not objects that are outputs. Blocks. Raises StoreError."""
    kept = {target.key(name) for name in but}
    for one in list(target.bucket.objects(target.key(f"{FOLDER}/"))):
        if one.key not in kept:
            target.bucket.delete(one.key)


# -- bringing it here


@frozen
class Brought:
    """What came from an archive: files, bytes, and what could not be brought, with the reason."""

    files: int
    bytes: int
    failed: tuple[str, ...]


def bring(
    target: Target, archive: Archive, dest: Path, names: Mapping[str, str], coming: Downloading
) -> Brought:
    """Bring files of an archive into a folder, and compare them with their sums; ``names`` are their
    paths there. Blocks. Raises OSError."""
    return _Bringing(target, archive, dest, names, coming).bring()


class _Bringing:
    """Reads an archive part by part: this disk holds one of them beside the files."""

    def __init__(
        self,
        target: Target,
        archive: Archive,
        dest: Path,
        names: Mapping[str, str],
        coming: Downloading,
    ) -> None:
        self._coming = coming
        self._target, self._archive, self._dest, self._names = target, archive, dest, names
        self._done: dict[str, int] = {}
        self._failed: dict[str, str] = {}

    def bring(self) -> Brought:
        wanted = []
        for file in sorted(self._archive.files, key=lambda one: one.at):
            if file.path not in self._names:
                continue
            place = self._place(file)
            if place.is_file() and sha256_of(place) == file.sha256:
                self._done[file.path] = file.size
            elif file.size:
                wanted.append(file)
            else:
                self._take(file, place)
        self._coming.expect(sum(part.size for part in self._archive.parts) if wanted else 0)
        begin, next_one = 0, 0
        spool = self._dest / SPOOL
        for part in self._archive.parts:
            end = begin + part.size
            last = next_one
            while last < len(wanted) and wanted[last].at < end:
                last += 1
            here = wanted[next_one:last]
            if here:
                self._read(part, spool, begin, here)
            elif wanted:
                self._coming.expect(-part.size)
            while next_one < last and wanted[next_one].at + wanted[next_one].size <= end:
                next_one += 1
            begin = end
        spool.unlink(missing_ok=True)
        failed = tuple(f"{path}: {why}" for path, why in self._failed.items())
        return Brought(len(self._done), sum(self._done.values()), failed)

    def _read(self, part: Part, spool: Path, begin: int, files: Sequence[File]) -> None:
        """Bring one part, and write what of files it has."""
        key = self._target.key(f"{self._archive.place}/{part.name}")
        spool.parent.mkdir(parents=True, exist_ok=True)
        try:
            spool.unlink(missing_ok=True)
            self._target.bucket.read_into(key, spool, part.size, self._coming.came)
        except StoreError as error:
            self._failed |= {one.path: error.message for one in files}
            return
        with spool.open("rb") as source:
            for file in files:
                if file.path not in self._failed:
                    self._write(file, source, begin, part.size)

    def _write(self, file: File, source: BinaryIO, begin: int, size: int) -> None:
        first, last = max(file.at, begin) - begin, min(file.at + file.size - begin, size)
        place = self._place(file)
        half = part_of(place)
        half.parent.mkdir(parents=True, exist_ok=True)
        source.seek(first)
        with half.open("ab" if file.at < begin else "wb") as written:
            left = last - first
            while left and (piece := source.read(min(left, 1 << 20))):
                written.write(piece)
                left -= len(piece)
        if last + begin == file.at + file.size:
            self._take(file, place, half)

    def _take(self, file: File, place: Path, half: Path | None = None) -> None:
        """Let a file have its name, if it is what was written."""
        place.parent.mkdir(parents=True, exist_ok=True)
        if half is None:
            half = part_of(place)
            half.write_bytes(b"")
        if sha256_of(half) != file.sha256:
            self._failed[file.path] = "the store has other bytes than were written"
            half.unlink()
            return
        os.replace(half, place)
        self._done[file.path] = file.size

    def _place(self, file: File) -> Path:
        return self._dest / self._names[file.path]
