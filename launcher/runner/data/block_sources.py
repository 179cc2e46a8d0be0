"""What gives the blocks of a data set that no host has yet: this machine, a store, or nobody where one
of the hosts has the source."""

from __future__ import annotations

import asyncio
import os
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from ...agent.base import blocks
from ...agent.base.blocks import Blocks
from ...spec.errors import LauncherError, SourceChanged, SyncError
from ...transport import rates
from ...transport.answers.data import DataBegun
from ..concurrency import in_thread
from . import listing
from .host import Delivered
from .listing import Remote
from .member import Member

#: Blocks at once, in this machine's memory; for one host; and that one host reads from a store. Of short
#: blocks it is more.
AT_ONCE, FOR_ONE, FROM_STORE = 6, 2, 4
#: Requests to a store that are open at once: of a host, of all hosts together for large objects, and of
#: a host at least; and up to which size of an object its start takes longer than its bytes.
READERS, TOGETHER, LEAST_READERS, SMALL = 8, 16, 2, 1 << 18
#: How often a host may be refused by the store until others read in its place.
REFUSALS = 3
#: Seconds for a host to take a block: over the slowest line.
SLOW = 300.0
#: Seconds between two looks at a block that a host reads.
LOOK = 0.15


class BlockSource(Protocol):
    """Gives blocks to hosts."""

    #: Why a host could not read, and what to do about it.
    refusal: tuple[str, str] | None

    def begin(self, hosts: int) -> int:
        """Prepare to give to so many hosts; return how many blocks each of them gets at once."""

    def can_feed(self, one: Member) -> bool:
        """Return whether a host may get blocks from it."""

    async def times(self, cut: Blocks) -> bytes:
        """Return when each entry of the set was changed, in nanoseconds; nothing if not known."""

    async def give(self, one: Member, number: int, cut: Blocks) -> None:
        """Give a block to a host, and wait until it is there. Raises LauncherError."""

    async def has_changed(self, members: Sequence[Member]) -> bool:
        """Return whether the source is no longer what was listed."""


def source_of(delivered: Delivered) -> BlockSource:
    """Return what gives a version."""
    if delivered.listed.store is not None:
        return FromStore(delivered, delivered.listed.store)
    return FromHost(delivered) if delivered.listed.there else FromHere(delivered)


class FromHere:
    """A folder of this machine."""

    refusal: tuple[str, str] | None = None

    def __init__(self, delivered: Delivered) -> None:
        self._one = delivered
        more = max(1, (1 << 20) // blocks.length_for(delivered.listed.version.bytes))
        self._for_one = FOR_ONE * more
        self._gate = asyncio.Semaphore(AT_ONCE * more)

    def begin(self, hosts: int) -> int:
        """Return the same for each, however many there are: all together take turns."""
        return self._for_one

    def can_feed(self, one: Member) -> bool:
        """Return True: whatever there is can be sent."""
        return True

    async def times(self, cut: Blocks) -> bytes:
        """Return the times of all files here."""
        return await in_thread(_times, os.fspath(self._one.listed.folder), cut)

    def _block(self, host: str, number: int, cut: Blocks) -> tuple[bytearray, bytes]:
        """Return a block and its sum. Raises SourceChanged."""
        pieces = list(cut.pieces(number))
        try:
            data = blocks.read(pieces, cut.length_of(number), os.fspath(self._one.listed.folder))
            found = blocks.summed(pieces, data)
            path = blocks.damaged(pieces, found.files)
        except OSError as error:
            path = error.filename or b"a file"
        if path is None:
            return data, found.block
        raise SourceChanged(
            host,
            f"{self._one.data.name}: {os.fsdecode(path)} has changed or is gone",
            "does something write to its source?",
        )

    async def give(self, one: Member, number: int, cut: Blocks) -> None:
        """Send a block. Raises SourceChanged, HostError."""
        async with self._gate:
            data, checksum = await in_thread(self._block, one.name, number, cut)
            async with rates.share() as rate:
                began = asyncio.get_running_loop().time()
                await one.agent.ask(
                    "data",
                    patience=SLOW,
                    payload=data,
                    do="pass",
                    part="block",
                    number=number,
                    sum=checksum.hex(),
                )
                await rates.paced(len(data), began, rate)
        one.have |= 1 << number
        one.sent += len(data)

    async def has_changed(self, members: Sequence[Member]) -> bool:
        """Read the folder again, as far as it has changed."""
        with suppress(LauncherError, OSError):
            now = await in_thread(listing.read_source, self._one.data.source)
            return now.version != self._one.listed.version
        return True


class FromStore:
    """Objects of a store, or a file of a web server: hosts read them themselves."""

    def __init__(self, delivered: Delivered, store: Remote) -> None:
        self._one, self._store = delivered, store
        self._readers = READERS
        self.refusal: tuple[str, str] | None = None

    def begin(self, hosts: int) -> int:
        """Return so many that a part of a small set is left for whoever is faster. Few of them are read
        at the same time by one of many hosts: a block that is half there is passed on to nobody."""
        version = self._one.listed.version
        length = blocks.length_for(version.bytes)
        if version.bytes > SMALL * max(1, version.files):
            self._readers = max(LEAST_READERS, TOGETHER // hosts)
        most = FROM_STORE * max(1, blocks.LENGTH // length)  # as many bytes as of long ones
        return min(most, max(FROM_STORE, version.bytes // length // (2 * hosts)))

    def can_feed(self, one: Member) -> bool:
        """Return whether the store has not refused this host again and again."""
        return not one.is_whole and one.refusals < REFUSALS

    async def times(self, cut: Blocks) -> bytes:
        """Return nothing: objects are read when they are read."""
        return b""

    def _urls(self, cut: Blocks, number: int) -> list[str]:
        return [self._store.url(os.fsdecode(piece.entry.path)) for piece in cut.pieces(number)]

    async def give(self, one: Member, number: int, cut: Blocks) -> None:
        """Have a host read a block. Raises SourceChanged, HostError."""
        name, source = self._one.data.name, self._one.data.source
        for _ in range(REFUSALS):
            urls = await in_thread(self._urls, cut, number)
            one.failed.pop(number, None)
            await one.agent.ask(
                "data",
                patience=SLOW,
                do="pass",
                part="pull",
                blocks=[[number, urls]],
                follow=self._store.follow,
                headers=dict(self._store.headers),
                readers=self._readers,
            )
            while number not in one.failed and not one.have >> number & 1:
                if not one.is_alive:
                    return
                await asyncio.sleep(LOOK)
            if number not in one.failed:
                return
            path, code, text = one.failed.pop(number)
            if code == "changed":
                raise SourceChanged(
                    one.name,
                    f"{name}: {path}: {text}",
                    "wait until nothing writes there, and start again: what has arrived stays",
                )
            if code != "expired":
                break
        one.refusals += 1
        text = f"{name}: {path} cannot be read from {source}: {text}"
        self.refusal = (text, self._store.advice)

    async def has_changed(self, members: Sequence[Member]) -> bool:
        """Ask the store."""
        return await in_thread(self._store.has_changed)


class FromHost:
    """A folder of a host that is a member: it passes its blocks on, as every host does."""

    refusal: tuple[str, str] | None = None

    def __init__(self, delivered: Delivered) -> None:
        self._one = delivered

    def begin(self, hosts: int) -> int:
        """Return 0: this machine has nothing to give."""
        return 0

    def can_feed(self, one: Member) -> bool:
        """Return False: this machine has nothing to give."""
        return False

    async def times(self, cut: Blocks) -> bytes:
        """Return nothing: times stay there."""
        return b""

    async def give(self, one: Member, number: int, cut: Blocks) -> None:
        """Refuse: this machine has nothing to give."""
        raise AssertionError("a host is only fed by those that can")

    async def has_changed(self, members: Sequence[Member]) -> bool:
        """Ask the host that has it; whether one that does not answer has changed is not known."""
        listed = self._one.listed
        request = {"version": listed.version.version, "at": os.fspath(listed.folder)}
        for one in members:
            if one.is_alive and one.name == listed.there:
                with suppress(LauncherError):
                    there = await one.agent.answer(DataBegun, "data", do="have", **request)
                    return not there.have
        return False

    def not_given(self, one: Member, members: Sequence[Member], is_asked: bool) -> SyncError:
        """Return why a host gets nothing; ``is_asked``: whether the one that has the source was."""
        name, there = self._one.data.name, self._one.listed.there
        for other in members:
            if other.name == there and other.error is not None:
                text = f"{there} cannot give it {name}: {other.error.message}"
                return SyncError(one.name, text, other.error.hint)
        if not is_asked:
            text = f"{there} is out of reach, and no other host has {name}"
            return SyncError(one.name, text, "start again when it is back")
        text = f"{name}: {self._one.data.source} has changed since it was read"
        return SourceChanged(one.name, text, "wait until nothing writes there, and start again")


def _times(folder: str, cut: Blocks) -> bytes:
    """Return when each entry of a set was changed here, in nanoseconds."""
    root = os.fsencode(folder)
    found = bytearray()
    for entry in cut.entries():
        try:
            moment = os.lstat(os.path.join(root, entry.path)).st_mtime_ns
        except OSError:
            moment = 0
        found += struct.pack(">q", moment)
    return bytes(found) if len(found) <= 15 << 20 else b""
