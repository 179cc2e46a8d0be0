"""The code of one run: read once on this machine, recorded, and given to every host."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from contextlib import suppress

from ...records import events as ev
from ..concurrency import together
from ..context import RunContext
from ..host_session import HostSession
from . import code_here, code_snapshot, code_sync, secret_files
from .code_here import CodeHere
from .code_snapshot import Source
from .revision import Revision, revision_of


class RunCode:
    """Reads the code of a job, or knows the run that has it already, and gives it to hosts."""

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._here: CodeHere | None = (
            None  # once it was read; never of a run that has another one's
        )

    async def read(self) -> None:
        """Read the code here, unless it is that of another run. Raises InputError."""
        request, job = self._context.request, self._context.job
        if request.code_copy:
            from . import code_copy  # for trials of sweeps

            self._here = await asyncio.to_thread(code_copy.read, job, request.code_copy)
        elif not request.code_of:
            self._here = await asyncio.to_thread(code_here.read, job, self._context.folder.added)

    async def give(self, sessions: Sequence[HostSession]) -> None:
        """Give every host the run's own copy, and record which code that is. Raises HostError."""
        context, here = self._context, self._here
        if here is None:
            other = context.request.code_of
            assert other
            await asyncio.to_thread(self._note_code_of, other)
            await together(code_sync.give_code_of(context, one, other) for one in sessions)
            return
        source, revision = here.source, here.revision
        self._tell_of(here)
        await asyncio.to_thread(self._note, source, revision)
        secrets = tuple(context.job.secrets.values())
        named = await asyncio.to_thread(secret_files.to_name, source, revision, secrets)
        if named is not None:
            context.add(ev.SecretsCopied(time.time(), named.copied, named.kept))
        given = await code_sync.give_code(context, sessions, source)
        if given.version != source.version:  # edited meanwhile
            await asyncio.to_thread(self._note, given, revision_of(given.folder))

    def _tell_of(self, here: CodeHere) -> None:
        """Record what a user may not expect of the code."""
        add, now = self._context.add, time.time()
        if here.source.unreadable:
            add(ev.CodeUnreadable(now, tuple(map(os.fsdecode, here.source.unreadable))))
        if here.missed:
            add(ev.WordsNotCopied(now, here.missed.paths, here.missed.outside))
        if large := here.large:
            add(ev.CodeIsLarge(now, large.bytes, large.files, large.largest))

    def _note(self, source: Source, revision: Revision) -> None:
        folder = self._context.folder
        folder.write("code.json", code_snapshot.describe_code(source, revision))
        if revision.diff:
            folder.write_bytes("code.diff", revision.diff)
        else:
            (folder.path / "code.diff").unlink(missing_ok=True)

    def _note_code_of(self, other: str) -> None:
        """Note which code this is, as the other run did; it may have been deleted."""
        folder = self._context.folder
        for name in ("code.json", "code.diff"):
            with suppress(OSError):
                folder.write_bytes(name, (folder.path.with_name(other) / name).read_bytes())
