"""Gives a run its own snapshot of the code on a host.

Not responsible for what the code is (:mod:`launcher.source`) or how bytes travel
(:mod:`launcher.rsync`). On the host, every version of a source is sealed under its fingerprint and
never written again; a run's copy is made of hard links to it. So an unchanged version needs one
request, and a changed one costs what has changed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from . import events as ev
from . import rsync, source
from .errors import SyncError
from .link import Link
from .source import Source

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
        code = source.read(code.folder, leave_out)
    raise SyncError(
        link.name,
        f"{code.folder} keeps changing while it is copied",
        f"its newest file is {source.newest(code)}: leave it out by .launcherignore, if that is it",
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
