"""Brings data sets to a host: only what it lacks travels, and it checks the sum of every file.

Many small files and a few large ones take the same way: rsync over the connection that is open. What
has arrived when a copy is interrupted stays there, and the next one continues.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from ...spec.errors import SourceChanged, SyncError
from ...transport import rsync
from ...transport.agent_client import Agent
from ...transport.answers.data import DataBegun, DataExamined
from ..concurrency import in_thread
from .host import Delivered, Host, OnPercent
from .store_fetch import fetch

#: Seconds between two looks at a copy that another run is making.
BUSY = 0.5
#: Bytes of a manifest that goes in a request.
SMALL = 1 << 18
#: How often files arrive with another sum than they have here.
TRIES = 3
#: Seconds for a host to check what has arrived, and bytes that the slowest disk reads in one.
PATIENCE, BYTES_A_SECOND = 600.0, 20e6


async def bring(host: Host, one: Delivered, progress: OnPercent) -> int:
    """Make sure that a host has a version; return the bytes that travelled. Raises HostError."""
    copied = 0
    examined = DataExamined((), 0)
    for attempt in range(TRIES):
        begun = await begin(host, one)
        if begun.have:
            return copied
        copied += await _copy(host, one, begun, not attempt, progress)
        version = one.listed.version
        examined = await host.agent.answer(
            DataExamined,
            "data",
            patience=PATIENCE + version.bytes / BYTES_A_SECOND,
            do="seal",
            version=version.version,
        )
        if not examined.count:
            return copied
    path, why = examined.bad[0] if examined.bad else ("?", "differs")
    more = f", and {examined.count - 1} more files" if examined.count > 1 else ""
    raise SourceChanged(
        host.name,
        f"{one.data.name}: {path} {why} there{more}",
        "does something write to its source? If not, look at that host's disk",
    )


async def begin(host: Host, one: Delivered) -> DataBegun:
    """Wait until the version is there, or until nobody else brings it."""
    version = one.listed.version
    while True:
        begun = await host.agent.answer(
            DataBegun,
            "data",
            do="begin",
            version=version.version,
            name=one.data.name,
            bytes=version.bytes,
            files=version.files,
            limit=host.agent.host.data_limit or 0,
            shared=one.folder(host),
        )
        if not begun.busy:
            return begun
        await asyncio.sleep(BUSY)


async def _copy(
    host: Host, one: Delivered, begun: DataBegun, shares: bool, progress: OnPercent
) -> int:
    """Bring the manifest, and what the host lacks of the files; return the bytes that travelled. Files
    that have not changed are those of an earlier version, if it ``shares``."""
    listed = one.listed
    sent, begun = await bring_manifest(host, host.agent, one, begun)
    if listed.store is not None:
        return sent + await fetch(host, one, listed.store, progress)
    base = begun.base if shares else ""
    return sent + await _rsync(
        host,
        [
            "--recursive",
            "--links",
            "--times",
            "--perms",
            "--chmod=Du=rwx,Dgo=,Fa=rX",  # as they are sealed: the next version can share them
            "--partial",
            *([f"--link-dest={base}"] if base else []),
            f"{os.fspath(listed.folder)}/",
            f"x:{begun.folder}/files/",
        ],
        b"./",
        progress,
    )


async def bring_manifest(
    host: Host, agent: Agent, one: Delivered, begun: DataBegun
) -> tuple[int, DataBegun]:
    """Bring the list of what is in a set, and have the ``agent`` that began the copy make room for it;
    return the bytes that travelled, and where the copy goes. Raises HostError."""
    manifest, version = one.listed.manifest, one.listed.version.version
    data = await in_thread(_small, manifest)
    if data:
        await agent.ask("data", patience=PATIENCE, payload=data, do="list_of", version=version)
        sent = len(data)
    else:
        sent = await _rsync(
            host,
            ["--compress", f"{os.fspath(manifest.parent)}/", f"x:{begun.folder}/"],
            manifest.name.encode(),
            lambda percent: None,
        )
    if not begun.base:
        return sent, begun  # it has made room by now
    return sent, await agent.answer(
        DataBegun, "data", patience=PATIENCE, do="room", version=version
    )


def _small(manifest: Path) -> bytes:
    """Return a manifest for which no rsync is worthwhile; nothing for a larger one. Raises OSError."""
    with manifest.open("rb") as file:
        data = file.read(SMALL + 1)
    return data if len(data) <= SMALL else b""


async def _rsync(host: Host, options: list[str], names: bytes, progress: OnPercent) -> int:
    try:
        return (await rsync.copy(host.connection, host.name, options, names, progress)).sent
    except SyncError as error:
        if "vanished" in error.message:
            raise SourceChanged(host.name, error.message) from None
        raise
