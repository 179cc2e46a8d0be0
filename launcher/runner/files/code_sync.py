"""Give a run its own snapshot of the code on a host.

Every version of a source is sealed on the host under its fingerprint and never written again; a run's
copy consists of hard links to it. So an unchanged version costs one request, and a changed one only
its changes: with a second request where they are small, else with rsync.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...records import events as ev
from ...records.run_reader import code_of
from ...spec.errors import HostError, InputError, SyncError
from ...spec.frozen import frozen
from ...spec.model import Job
from ...transport import rates, rsync
from ...transport.answers.runs import Snapshot
from ..concurrency import in_thread, together
from ..context import RunContext
from ..host_session import HostSession
from . import code_patch, code_snapshot
from .code_snapshot import Source

#: How often a source may change while it is being copied.
TRIES = 3
#: How many hosts are copied to at once: each takes an rsync here.
COPIES = 8


async def give_code(context: RunContext, sessions: Sequence[HostSession], code: Source) -> Source:
    """Make the run's snapshot on all hosts; return the version that each of them has. Raises HostError.

    A copy is compared with the listing made here. Where files were edited meanwhile, all hosts get the
    newer version: the ranks of a run execute the same code.
    """
    given = [_Given() for _ in sessions]
    is_small = code_patch.is_small(code) and not rates.are_limited()
    patches = code_patch.Patches(code) if is_small else None
    for _ in range(TRIES):
        steps = zip(sessions, given, strict=True)
        given = await together(
            (_give(context, one, code, last, patches) for one, last in steps), COPIES
        )
        if all(one.has for one in given):
            return code
        code = await in_thread(code_snapshot.again, code, context.job, context.folder.added)
        patches = None  # rsync looks at each file anew
    raise SyncError(
        next(one.name for one, last in zip(sessions, given, strict=True) if not last.has),
        f"{code.folder} keeps changing while it is copied",
        f"its newest file is {code_snapshot.newest(code)}: if it is a log, list it in .launcherignore",
    )


@frozen
class _Given:
    """Whether a host has the version that was asked for, and the bytes sent to it so far."""

    has: bool = False
    sent: int = 0


async def _give(
    context: RunContext,
    session: HostSession,
    code: Source,
    last: _Given,
    patches: code_patch.Patches | None,
) -> _Given:
    """Make the run's snapshot of this version on a host, unless its copy turns out to be another one."""
    started, sent = time.time(), last.sent
    wanted: dict[str, Any] = {"run": context.name, "source": code.identity, "version": code.version}
    lists = {"list": 1} if patches else {}
    answer = await session.agent.answer(Snapshot, "snapshot", **wanted, **lists)
    patch = None
    if patches and not answer.have and answer.known is not None:
        patch = await in_thread(patches.against, answer.known)
    if patch:
        fields = {**wanted, **patch.request, "base": answer.base}
        answer = await session.agent.answer(Snapshot, "patch", payload=patch.content, **fields)
        sent += patch.bytes
    elif not answer.have:
        sent += await _copy(context, session, code, answer)
        answer = await session.agent.answer(Snapshot, "snapshot", **wanted)
    if answer.have:
        context.add(_synced(session, code, started, sent))
    return _Given(answer.have, sent)


async def give_code_of(context: RunContext, session: HostSession, other: str) -> None:
    """Make the run's snapshot from that of another run on the host, or, where that run was not on it,
    from the folder here if it has not changed since. Raises HostError."""
    started = time.time()
    answer = await session.agent.answer(
        Snapshot, "snapshot", run=context.name, source="", version="", from_run=other
    )
    if not answer.have:
        version = code_of(context.folder.path.with_name(other)).snapshot
        if version:
            await give_same_code(context, session, version, ())
            return
        raise SyncError(
            session.name,
            f"it has no code of {other}",
            "choose the hosts of that run, or use `launcher run` with the code of a folder",
        )
    context.add(_synced(session, replace(_EMPTY, version=f"that of {other}"), started, 0))


async def give_same_code(
    context: RunContext,
    session: HostSession,
    version: str,
    others: Sequence[tuple[HostSession, str]],
) -> None:
    """Make the snapshot of exactly this ``version`` of the job's source.

    It comes from the host's own store, from the source here if that has not changed, or from one of
    ``others`` (each with the agent's folder there). Raises HostError.
    """
    started, copied = time.time(), 0
    origin = await asyncio.to_thread(Path(context.job.workdir).resolve)
    here = replace(_EMPTY, folder=origin)
    with tempfile.TemporaryDirectory() as scratch:
        wanted: dict[str, Any] = {"run": context.name, "source": here.identity, "version": version}
        answer = await session.agent.answer(Snapshot, "snapshot", **wanted)
        if not answer.have:
            here = await _here(origin, context.job, context.folder.added)
            if here.version != version:
                here = await _elsewhere(origin, version, others, Path(scratch)) or here
            if here.version != version:
                raise SyncError(
                    session.name,
                    f"the code of {context.name} is not available: {origin} has changed since, and "
                    "no host of the run keeps that version",
                    "use the hosts that the run had; launcher run copies the code as it is now",
                )
            copied = await _copy(context, session, here, answer)
            answer = await session.agent.answer(Snapshot, "snapshot", **wanted)
    if not answer.have:
        raise SyncError(session.name, f"what arrived is not the code of {context.name}")
    context.add(_synced(session, replace(here, version=version), started, copied))


#: A source that was not read, for its identity alone.
_EMPTY = Source(Path(), (), "", 0, 0)


def _synced(session: HostSession, code: Source, started: float, copied: int) -> ev.CodeSynced:
    return ev.CodeSynced(
        time=time.time(),
        host=session.name,
        version=code.version,
        files=code.files,
        bytes=code.bytes,
        copied=copied,
        seconds=time.time() - started,
    )


async def _here(origin: Path, job: Job, added: Path) -> Source:
    with suppress(InputError, OSError):  # the folder may be gone
        return await asyncio.to_thread(code_snapshot.of_job, job, added)
    return replace(_EMPTY, folder=origin)


async def _elsewhere(
    origin: Path, version: str, others: Sequence[tuple[HostSession, str]], scratch: Path
) -> Source | None:
    """Copy that version of a source from a host into ``scratch``; None when no host keeps it."""
    identity = replace(_EMPTY, folder=origin).identity
    for number, (session, root) in enumerate(others):
        folder, copy = f"x:{root}/code/{identity}/{version}/", scratch / str(number)
        with suppress(HostError):  # a host keeps some versions only
            options = ["--recursive", "--links", "--times", "--perms", folder, f"{copy}/"]
            await rsync.copy(session.connection, session.name, options, b"./")
            found = await asyncio.to_thread(code_snapshot.read_copy, copy, origin)
            if found.version == version:
                return found
    return None


async def _copy(context: RunContext, session: HostSession, code: Source, answer: Snapshot) -> int:
    """Copy this version to the host and seal it; return the bytes sent.

    The host's ``answer`` names the folder, and the version whose unchanged files are linked.
    """
    base, folder, incoming = answer.base, answer.folder, f"incoming-{context.name}"

    def progress(percent: int) -> None:
        context.add(ev.SyncProgressed(time.time(), session.name, percent, code.bytes))

    options = [
        "--links",
        "--hard-links",
        "--times",
        "--perms",
        # The sealed version is shared by all later runs: nobody should write into it.
        "--chmod=Du=rwx,Fa-w,Fu+r",
        # Absolute: Debian's 3.2.7-1+deb12u6 loses files that resemble a relative one's.
        *([f"--link-dest={folder}/{base}"] if base else []),
    ]
    parts = [(code.folder, code.paths)]
    if code.added_from:
        parts.append((code.added_from, code.added))
    sent = 0
    try:
        for place, paths in parts:
            ends = [f"{os.fspath(place)}/", f"x:{folder}/{incoming}/"]
            names, argv = b"\0".join(paths), [*options, *ends]
            sent += (await rsync.copy(session.connection, session.name, argv, names, progress)).sent
        wanted: dict[str, Any] = {}
        if answer.grain > 1:  # the host's file system rounds times
            coarse = await asyncio.to_thread(code_snapshot.coarse_version, code, answer.grain)
            wanted = {"version": code.version, "coarse": coarse}
        await session.agent.ask("seal", source=code.identity, incoming=incoming, **wanted)
    except BaseException:
        if not session.agent.closed.done():
            await session.agent.ask("discard", source=code.identity, incoming=incoming)
        raise
    return sent
