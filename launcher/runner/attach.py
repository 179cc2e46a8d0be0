"""One process and one run: it follows the run, or watches the process that does and takes over when
that process is gone.

Only one process follows a run, the one that holds the lock of its folder; all others read what that
one writes there.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ..records import codec
from ..records import events as ev
from ..records.receipt import Receipt
from ..records.run_folder import RunFolder
from ..records.run_reader import RunReader
from ..records.state import RunState, step
from ..spec.errors import LauncherError
from ..spec.model import Layout, Request, Secret
from ..spec.ssh_config import OPENSSH
from ..transport.ssh_lookup import SshLookup
from . import wishes
from .concurrency import cancel
from .files.also import ask_for
from .listeners import OnEvent, OnLog, ignore_event
from .policy.host_count import how_many

if TYPE_CHECKING:
    from .run import Brought, Run

#: Seconds between two reads of what the follower wrote.
LOOK = 0.1


class Following(Protocol):
    """A run that this process follows or watches: :class:`Started` here, or :class:`Attached`."""

    reader: RunReader
    request: Request
    grace: float
    killing: bool
    is_ours: bool  # whether this process started it
    tail: int | None  # of how many last lines of each log that is here to show

    @property
    def layout(self) -> Layout:
        """Which host runs what; without nodes before that is decided."""

    async def to_the_end(self) -> Receipt:
        """Return the receipt as soon as the run has ended. Raises LauncherError."""

    def stop(self, grace: float | None = None) -> None:
        """Ask for the end; again: without grace."""

    async def until_on_its_own(self) -> None:
        """Wait until the run can do without this process; stop one that has not started yet."""

    def pull_now(self) -> None:
        """Bring outputs back at once, without waiting for their time."""

    def remember(self) -> None:
        """Note how far logs were passed on, for the next process that attaches."""

    def reread(self) -> None:
        """Take notice that a person trusts the record of the run now."""


class Started:
    """A run that this process starts and follows. ``on_event`` and ``on_log`` get everything.

    It is recorded at once: if this process dies, others can tell what became of it. Raises RecordError.
    """

    def __init__(
        self, request: Request, folder: RunFolder, on_event: OnEvent, on_log: OnLog
    ) -> None:
        self.request, self.reader = request, RunReader(folder.path)
        self.tail: int | None = None  # it shows everything
        self.grace = request.job.grace
        self.is_ours, self.killing, self._stopping = True, False, False
        self._folder, self._on_event, self._on_log = folder, on_event, on_log
        self._run: Run | None = None
        self._begun, self._started = asyncio.Event(), time.time()
        folder.write("run.json", codec.describe_run(request, self.layout, self._started))

    @property
    def layout(self) -> Layout:
        """Which host runs what; without nodes before that is decided."""
        return self._run.layout if self._run else Layout(self.reader.name, ())

    async def to_the_end(self) -> Receipt:
        """Return the receipt as soon as the run has ended, however it ends."""
        lookup, hosts = SshLookup(self.request.inventory), self.request.hosts
        first = hosts[: how_many(self.request.job, 0, len(hosts))]
        lookup.ask_ahead(host.name for host in first if host.transport != OPENSSH)
        from .run import Run  # asyncssh takes a tenth of a second to import: ssh answers meanwhile

        told = self._on_event, self._on_log
        self._run = Run(self.request, self._folder, *told, self._started, lookup)
        self._begun.set()
        for _ in range(self._stopping + self.killing):
            self._run.stop()
        return await follow(self._run, self._run.execute())

    def stop(self, grace: float | None = None) -> None:
        """Ask for the end; again: without grace."""
        self.killing, self._stopping = self._stopping, True
        if grace is not None:
            self.grace = grace
            wishes.note_grace(self.reader.path, grace)
        if self._run:
            self._run.stop()

    async def until_on_its_own(self) -> None:
        """Wait until the run can do without this process; stop one that has not started yet."""
        await self._begun.wait()
        if self._run:
            await self._run.until_on_its_own()

    def pull_now(self) -> None:
        """Bring outputs back at once, without waiting for their time."""
        if self._run:
            self._run.pull_now()

    def remember(self) -> None:
        """Do nothing: a run in the foreground passes on everything that it writes."""

    def reread(self) -> None:
        """Nothing to read: its record is this machine's own."""


class Attached:
    """A run that another process started. ``on_event`` gets new events, ``on_log`` all bytes that were
    not shown before; without them, the record of another process's run is not read."""

    def __init__(
        self, reader: RunReader, on_event: OnEvent | None = None, on_log: OnLog | None = None
    ) -> None:
        self.reader = reader
        self.tail: int | None = None
        self.request = startable(reader)
        self.grace = self.request.job.grace
        self.is_ours = self.killing = self._stopping = self._positioned = False
        self._on_event, self._on_log = on_event, on_log
        self._run: Run | None = None

    @property
    def layout(self) -> Layout:
        """Which host runs what; without nodes before that is decided."""
        return self.reader.layout

    async def to_the_end(self) -> Receipt:
        """Return the receipt as soon as the run has ended. Raises LauncherError."""
        self._position()
        try:
            while True:
                ended = self.reader.receipt()
                folder = RunFolder.open(self.reader.path)
                if ended is None and folder.hold() and self.reader.receipt() is None:
                    return await self._take_over(folder)
                folder.close()
                self._look()
                if ended is not None:
                    return ended
                await asyncio.sleep(LOOK)
        finally:
            self.remember()

    def stop(self, grace: float | None = None) -> None:
        """Ask to stop the run, whichever process follows it; asked again, without grace."""
        self.killing, self._stopping = self._stopping, True
        self.grace = self.grace if grace is None else grace
        if self._run is None:
            wishes.ask_stop(self.reader.path, self.grace)
            return
        if grace is not None:
            wishes.note_grace(self.reader.path, grace)
        self._run.stop()

    async def until_on_its_own(self) -> None:
        """Wait until the run can do without this process: at once, if another one follows it."""
        if self._run:
            await self._run.until_on_its_own()

    def pull_now(self) -> None:
        """Ask to fetch outputs now, whichever process follows the run."""
        if self._run:
            self._run.pull_now()
        else:
            wishes.ask_pull(self.reader.path)

    def remember(self) -> None:
        """Note how far logs were passed on, for the next process that attaches."""
        if self._on_log:
            with suppress(OSError):  # a full disk here: the next one shows more than is new
                self.reader.remember()

    def reread(self) -> None:
        """Take notice that a person trusts the record of the run now."""
        ask = self.request.ask_passphrase
        self.request = replace(startable(self.reader), ask_passphrase=ask)

    def _position(self) -> None:
        """Continue after the last byte that was shown, and the last event."""
        if not self._positioned:
            self._positioned = True
            self.reader.skip_events()
            self.reader.resume_logs()
            if self.tail is not None:
                self.reader.skip_to_tail(self.tail)

    def _look(self) -> None:
        if self._on_event:
            for event in self.reader.new_events():
                self._on_event(event)
        if self._on_log:
            for piece in self.reader.new_logs():
                self._on_log(piece.host, piece.name, piece.data)

    async def _take_over(self, folder: RunFolder) -> Receipt:
        from .run import Run  # asyncssh takes a third of a second to import

        on_event, on_log = self._on_event or ignore_event, self._on_log

        def pass_on(host: str, name: str, data: bytes) -> None:
            self.reader.passed(name, len(data))
            if on_log:
                on_log(host, name, data)

        self._look()
        self.reader.reread()
        run = self._run = Run(self.request, folder, on_event, pass_on, self.reader.started)
        for _ in range(self._stopping + self.killing):
            run.stop()
        return await follow(run, run.resume(self.reader.layout))


async def follow(run: Run, work: Coroutine[Any, Any, Receipt]) -> Receipt:
    """Do the work of a run to its receipt, and carry out the wishes of other processes meanwhile.

    Cancelling this closes all connections; the run continues on its hosts.
    """
    heard = wishes.Wishes(run.folder)
    if heard.stop_pending and not run.switch.asked.is_set():
        run.stop()
    listening = asyncio.ensure_future(heard.carry_out(run))
    try:
        return await work
    except asyncio.CancelledError:
        await run.close()
        raise
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def until_let_go(
    following: asyncio.Task[Receipt],
    leaving: asyncio.Event,
    until_on_its_own: Callable[[], Coroutine[Any, Any, None]],
) -> Receipt | None:
    """Return the receipt of a run, or None once it was let go: it continues on its hosts.

    It is let go when ``leaving`` is set and the hosts carry on without a launcher. Cancelling this
    cancels ``following``, too.
    """

    async def on_its_own() -> None:
        await leaving.wait()
        await until_on_its_own()

    letting_go = asyncio.ensure_future(on_its_own())
    try:
        await asyncio.wait({following, letting_go}, return_when=asyncio.FIRST_COMPLETED)
        return following.result() if following.done() else None
    finally:
        await cancel(following, letting_go)


async def until_started(
    reader: RunReader, on_event: OnEvent | None = None, or_waits: bool = False
) -> Receipt | None:
    """Wait until all processes of a run have started, or with ``or_waits`` until it waits for its turn;
    return the receipt of one that ended before.

    Raises LauncherError when its follower has died.
    """
    state = RunState()
    while not (state.all_started or (or_waits and state.waits)):
        ended = reader.receipt()
        for event in reader.new_events():
            state = step(state, event)
            if on_event:
                on_event(event)
        if ended is not None:
            return ended
        if reader.follower() is None and reader.receipt() is None:
            raise LauncherError(
                f"the follower of {reader.name} died before all processes were started",
                f"stop those that run: launcher stop {reader.name}",
            )
        await asyncio.sleep(LOOK)
    return None


async def bring(
    following: Following, also: Sequence[str] = (), on_event: OnEvent | None = None
) -> Brought:
    """Fetch logs and outputs as they are on the hosts now, while the run continues; ``also`` names
    files that are no outputs, and that are brought from now on."""
    from .run import Brought, Run  # asyncssh takes a third of a second to import

    reader = RunReader(following.reader.path)
    reader.skip_events()
    if also:
        ask_for(reader.path, also)
    folder = RunFolder.open(reader.path)
    if folder.hold():
        run = Run(following.request, folder, on_event or ignore_event, started=reader.started)
        return await run.bring(reader.layout)
    folder.close()
    following.pull_now()
    while reader.follower() is not None:
        for event in reader.new_events():
            if isinstance(event, ev.OutputsPulled):
                return Brought(event.failed)
        await asyncio.sleep(LOOK)
    return Brought({})


def startable(reader: RunReader) -> Request:
    """Return the request of a run, with secrets from the environment, since no record holds them.

    Without them the run continues, but cannot restart; nor may it by a record that only its hosts
    hold and nobody has agreed to.
    """
    request, names = reader.request, reader.secret_names
    if reader.doubts or any(name not in os.environ for name in names):
        return replace(request, max_restarts=0, min_nodes=None)
    secrets = {name: Secret(os.environ[name]) for name in names}
    return replace(request, job=replace(request.job, secrets=secrets))
