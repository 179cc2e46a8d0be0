"""Gives a run its own snapshot of the code on a host.

On the host, every version of a source is sealed under its fingerprint and never written again; a
run's copy is made of hard links to it. So an unchanged version needs one request, and a changed one
costs what has changed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...records import events as ev
from ...spec.errors import HostError, InputError, SyncError
from ...transport import rsync
from ..host_session import Link
from . import code_snapshot
from .code_snapshot import Source

#: How often a source may change while it is being copied.
TRIES = 3


async def give_code(
    link: Link, code: Source, run: str, leave_out: tuple[str, ...], emit: Callable[[ev.Event], None]
) -> None:
    """Makes the run's snapshot on a host. Raises HostError.

    What arrives is compared with what was listed here; when somebody edits meanwhile, the copy is
    made again.
    """
    started, copied = time.time(), 0
    for _ in range(TRIES):
        answer = await link.agent.ask(
            "snapshot", run=run, source=code.identity, version=code.version
        )
        if answer["have"]:
            emit(
                ev.CodeSynced(
                    time=time.time(),
                    host=link.name,
                    version=code.version,
                    files=code.files,
                    bytes=code.bytes,
                    copied=copied,
                    seconds=time.time() - started,
                )
            )
            return
        copied += await _copy(link, code, run, answer["folder"], answer["base"], emit)
        code = code_snapshot.read(code.folder, leave_out)
    raise SyncError(
        link.name,
        f"{code.folder} keeps changing while it is copied",
        f"its newest file is {code_snapshot.newest(code)}: if it is a log, list it in .launcherignore",
    )


async def give_code_of(link: Link, other: str, run: str, emit: Callable[[ev.Event], None]) -> None:
    """Makes the run's snapshot of what another run has on the host. Raises HostError."""
    started = time.time()
    answer = await link.agent.ask("snapshot", run=run, source="", version="", from_run=other)
    if not answer["have"]:
        raise SyncError(
            link.name,
            f"it has no code of {other}",
            "choose the hosts of that run, or `launcher run` with the code of a folder",
        )
    took = time.time() - started
    emit(ev.CodeSynced(time.time(), link.name, f"that of {other}", 0, 0, 0, took))


async def give_same_code(
    link: Link,
    origin: Path,
    version: str,
    leave_out: tuple[str, ...],
    run: str,
    others: Sequence[tuple[Link, str]],
    emit: Callable[[ev.Event], None],
) -> None:
    """Makes the snapshot of one ``version`` of the source in ``origin`` (resolved), and of no other.

    From what the host has, or from ``origin`` while it is still the same, or from one of ``others``
    (with the folder where the agent keeps its files there). Raises HostError.
    """
    started, copied = time.time(), 0
    here = replace(_EMPTY, folder=origin)
    with tempfile.TemporaryDirectory() as scratch:
        wanted: dict[str, Any] = {"run": run, "source": here.identity, "version": version}
        answer = await link.agent.ask("snapshot", **wanted)
        if not answer["have"]:
            here = await _found(origin, version, leave_out, others, Path(scratch))
            if here.version != version:
                raise SyncError(
                    link.name,
                    f"the code of {run} cannot be had: {origin} has changed since, and no host of "
                    "the run keeps that version",
                )
            copied = await _copy(link, here, run, answer["folder"], answer["base"], emit)
            answer = await link.agent.ask("snapshot", **wanted)
    if not answer["have"]:
        raise SyncError(link.name, f"what arrived is not the code of {run}")
    took = time.time() - started
    emit(ev.CodeSynced(time.time(), link.name, version, here.files, here.bytes, copied, took))


#: No code: for the name of a source that was not read.
_EMPTY = Source(Path(), (), "", 0, 0)


async def _found(
    origin: Path,
    version: str,
    leave_out: tuple[str, ...],
    others: Sequence[tuple[Link, str]],
    scratch: Path,
) -> Source:
    """That version of a source, here or copied into ``scratch``; another one where there is none."""
    here = _EMPTY
    with suppress(InputError, OSError):  # the folder may be gone
        here = await asyncio.to_thread(code_snapshot.read, origin, leave_out)
    for number, (link, root) in enumerate(others):
        if here.version == version:
            break
        identity = replace(_EMPTY, folder=origin).identity
        folder = f"x:{root}/code/{identity}/{version}/"
        copy = scratch / str(number)
        with suppress(HostError):  # a host keeps some versions only
            options = ["--recursive", "--links", "--times", "--perms", folder, f"{copy}/"]
            await rsync.copy(link.connection, link.name, options, b"./")
            here = await asyncio.to_thread(code_snapshot.read_copy, copy, origin)
    return here


async def _copy(
    link: Link,
    code: Source,
    run: str,
    folder: str,
    base: str | None,
    emit: Callable[[ev.Event], None],
) -> int:
    """Brings this version to the host and seals it. Returns bytes sent."""
    incoming = f"incoming-{run}"

    def progress(percent: int) -> None:
        emit(ev.SyncProgressed(time.time(), link.name, percent))

    try:
        result = await rsync.copy(
            link.connection,
            link.name,
            [
                "--links",
                "--times",
                "--perms",
                # The sealed version is shared by all later runs: nobody should write into it.
                "--chmod=Du=rwx,Fa-w,Fu+r",
                *([f"--link-dest=../{base}"] if base else []),
                f"{os.fspath(code.folder)}/",
                f"x:{folder}/{incoming}/",
            ],
            b"\0".join(code.paths),
            progress,
        )
        await link.agent.ask("seal", source=code.identity, incoming=incoming)
    except BaseException:
        if not link.agent.closed.done():
            await link.agent.ask("discard", source=code.identity, incoming=incoming)
        raise
    return result.sent
