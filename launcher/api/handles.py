"""Handles of one run: ``RunHandle``, and ``AsyncRunHandle`` for asyncio."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..records import events as ev
from ..records import metric_files
from ..records.adoption import commands
from ..records.code import Code
from ..records.data import UsedSet
from ..records.metrics import HostUse, Sample, offsets
from ..records.receipt import NotBrought, Receipt, StoredOutputs
from ..records.run_folder import follower
from ..records.run_reader import LogPiece, RunReader, code_of, sets_of
from ..records.state import RunState
from ..runner.attach import LOOK, Following, bring, until_let_go, until_started
from ..runner.listeners import OnEvent, ignore_event
from ..spec import given
from ..spec.errors import HostError, InputError, RunKept, UnreadableRecord
from ..spec.files import require_path
from ..spec.frozen import frozen
from ..spec.model import Inventory, Job, Layout, Request
from .loop_thread import LoopThread
from .progress import shown

if TYPE_CHECKING:
    from ..records.log_lines import LogLine
    from ..runner.files.stored_again import Restored as Restored
    from ..runner.remote_commands import ExecResult as ExecResult
    from ..runner.remote_commands import OnOutput as OnOutput
    from ..runner.remote_commands import RemoteShell as RemoteShell
    from ..runner.run import Brought


_TEXTS = tuple[str, ...]


def ignore_error(error: HostError) -> None:
    """Do nothing about an error."""


class Owner(Protocol):
    """What a handle needs from its client."""

    def follow(self, following: Following) -> asyncio.Task[Receipt]:
        """Start following a run, or watching its follower; the task returns its receipt."""

    def hosts_up(self, inventory: Inventory) -> AbstractAsyncContextManager[None]:
        """Keep the embedded hosts up, if the inventory uses them."""


@frozen
class Pulled:
    """The result of a pull: how many files and bytes ``outputs`` holds now, what failed by host, and
    what else the hosts have, as far as this process has asked them."""

    outputs: Path
    files: int
    bytes: int
    failed: Mapping[str, str]
    not_brought: tuple[NotBrought, ...] = ()
    stored: StoredOutputs | None = None  # in the store of its job; None while a follower sees to it


class RecordedRun:
    """The records of a run on this machine. Reading them needs no connection and never waits."""

    def __init__(self, following: Following) -> None:
        self._following = following
        self._reader = RunReader(following.reader.path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    @property
    def name(self) -> str:
        """The run's name, such as ``calm-owl-12``."""
        return self._reader.name

    @property
    def folder(self) -> Path:
        """The run's folder on this machine: records, logs and outputs."""
        return self._reader.path

    @property
    def job(self) -> Job:
        """The job that it runs."""
        return self._following.request.job

    @property
    def data(self) -> tuple[UsedSet, ...]:
        """The data sets that the run used, with their versions."""
        return sets_of(self.folder)

    @property
    def code(self) -> Code:
        """The code that it runs: folder, commit, and whether all was committed."""
        return code_of(self.folder)

    @property
    def request(self) -> Request:
        """Everything that was asked for, with its options; secrets have no values."""
        return self._reader.request

    @property
    def layout(self) -> Layout:
        """Which host runs what; it has no nodes until that is decided."""
        return self._following.layout

    @property
    def started(self) -> float:
        """When it was started, in seconds since the epoch. Raises InputError before it is recorded."""
        return self._reader.started

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return self._following.grace

    @property
    def killing(self) -> bool:
        """Whether this handle was asked twice to stop, and so kills without grace."""
        return self._following.killing

    @property
    def status(self) -> str:
        """The status of the run, such as ``running`` or ``succeeded``."""
        return self._reader.state().status

    @property
    def outputs(self) -> Path:
        """The folder of what it has brought back so far, which may not be there yet."""
        return self.folder / "outputs"

    def state(self) -> RunState:
        """Return the state of the run, folded from its events so far."""
        return self._reader.state()

    def events(self) -> list[ev.Event]:
        """Return all events so far, in their order."""
        return self._reader.events()

    @property
    def receipt(self) -> Receipt | None:
        """The receipt, or None until the run has ended."""
        return self._reader.receipt()

    @property
    def followed(self) -> bool:
        """Whether a process of this machine follows the run, and so keeps its records up to date."""
        return self._reader.follower() is not None

    @property
    def followed_by_another(self) -> bool:
        """Whether another process of this machine follows the run, whatever this one just let go of."""
        follower = self._reader.follower()
        return follower not in (None, os.getpid())

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why this machine starts nothing by the record of the run: another machine has started it, and
        its hosts disagree, name secrets or data sets, or have outputs stored. Attach with
        ``trust_record`` to do so all the same."""
        return self._reader.doubts

    @property
    def is_stored(self) -> bool:
        """Whether the job's store has all outputs that it is to have, as far as this machine knows."""
        from ..records.stored import UNSTORED

        return not (self.folder / UNSTORED).exists()

    @property
    def may_start_again(self) -> bool:
        """Whether its record lets whoever follows the run start it again."""
        return self._reader.request.max_restarts > 0

    @property
    def stores_outputs(self) -> bool:
        """Whether by its record a launcher has outputs stored, with credentials of its machine."""
        return bool(self._reader.request.job.output_to)

    @property
    def commands(self) -> tuple[str, ...]:
        """Every command of the job, each with the name of what runs it."""
        return commands(self._reader.request.job)

    def trust(self) -> None:
        """Let this machine start processes by the record in spite of its ``doubts``. Call it
        before the run is followed. Raises RecordError."""
        self._reader.trust()
        self._following.reread()

    def show_tail(self, lines: int) -> None:
        """Have ``on_log`` get only so many last lines of each log that is here already. Call it before
        the run is followed."""
        self._following.tail = lines

    def metrics(self) -> Mapping[str, tuple[Sample, ...]]:
        """Return what each host has measured so far, by this machine's clock."""
        clocks = offsets(self._reader.events())
        return {
            host: tuple(metric_files.samples(file, clocks.get(host, 0.0)))
            for host, file in metric_files.files(self.folder).items()
        }

    def use(self) -> Mapping[str, HostUse]:
        """Return how busy each host was so far: means and peaks of `metrics`."""
        return metric_files.uses(self.folder)

    def reader(self) -> RunReader:
        """Return a reader of events and logs with its own position, for a console that polls."""
        return RunReader(self.folder)

    def remember(self) -> None:
        """Note how far ``on_log`` got the logs; the next attach continues there."""
        self._following.remember()

    def _of(self, ranks: Collection[int] | None, pieces: Iterable[LogPiece]) -> Iterator[LogPiece]:
        """Yield the pieces of some ranks; None: all, and what is no rank's."""
        if ranks is None:
            yield from pieces
            return
        keys: set[str] = set()
        for piece in pieces:
            if not keys:  # not known before the run has hosts
                keys = self.layout.keys_of(ranks)
            if piece.name.rpartition("/")[2].partition(".")[0] in keys:
                yield piece


class AsyncRunHandle(RecordedRun):
    """One run. ``AsyncClient`` returns it; it works while its client is open."""

    def __init__(
        self,
        client: Owner,
        following: Following,
        *,
        task: asyncio.Task[Receipt] | None = None,
    ) -> None:
        super().__init__(following)
        self._client, self._task = client, task
        self.is_heard = False  # somebody gets its events or logs, and shows them as they like

    async def wait(self, timeout: float | None = None, *, progress: bool = False) -> Receipt:
        """Wait until the run ends, and return its receipt.

        If the run has no follower, this client follows it until it ends or the client is closed.
        Raises TimeoutError after ``timeout`` seconds, and the run continues; LauncherError if this
        machine cannot hold its records. With ``progress``, a line in a notebook or at a terminal shows
        how the run stands.
        """
        timeout = given.value("timeout", float | None, timeout)
        if self._task is None or (self._task.done() and _is_broken(self._task)):
            self._task = self._client.follow(self._following)
        with shown(self.folder, progress):
            async with asyncio.timeout(timeout):
                return await asyncio.shield(self._task)

    async def detach(self, in_background: bool = True) -> Receipt | None:
        """Stop following the run, which keeps running; return its receipt if it ended meanwhile.

        A background process follows it from then on, as with ``detach`` of ``AsyncClient.run``;
        without ``in_background`` nobody does, unless another process already did. Ranks that are being
        restarted are waited for. A run whose ranks have not all started yet is stopped: nobody else
        could start it. Raises LauncherError.
        """
        if self._task is not None:
            leaving = asyncio.Event()
            leaving.set()
            over = await until_let_go(self._task, leaving, self._following.until_on_its_own)
            if over is not None:
                return over
        if in_background and self.receipt is None and not self.followed_by_another:
            from ..runner import follower

            await follower.resume(self._following.request, self.folder)
        return self.receipt

    async def wait_until_started(
        self, on_event: OnEvent | None = None, *, or_waits: bool = False
    ) -> Receipt | None:
        """Wait until all processes run, or with ``or_waits`` until the run waits for its turn.

        Return None then, or the receipt if it ended before.

        ``on_event`` gets the events until then. Raises LauncherError if the run's follower died.
        """
        return await until_started(self.reader(), on_event, or_waits)

    def move(self, priority: int | None = None, *, first: bool = False) -> None:
        """Let a run that waits for GPUs wait with another priority (-1, 0 or 1), or before all others of
        the same one. Raises InputError if it does not wait, or nobody follows it."""
        from ..runner import wishes

        if self.state().waits_on and not self.followed:
            raise InputError(f"nobody follows {self.name} here", "launcher ls follows it again")
        if self.state().waits is None or not self.followed:
            raise InputError(
                f"{self.name} does not wait for its turn: it is {self.state().status}",
                "launcher queue shows who waits",
            )
        wishes.ask_move(self.folder, priority, first)

    def request_stop(self, grace: float | None = None) -> None:
        """Ask the run to stop, and return at once; ask again to kill without grace.

        ``grace`` is in seconds; None takes the job's. A run that has ended ignores it; a run
        without a follower stops with the next ``wait`` or ``stop``.
        """
        grace = _grace(grace)
        if self.receipt is None:
            self._following.stop(grace)

    async def stop(self, grace: float | None = None) -> Receipt:
        """Stop the run on all its hosts, and return its receipt, with what is left on each host.

        Processes get SIGTERM, and SIGKILL after ``grace`` seconds (None: the job's); outputs are
        brought back. If the run has ended, hosts that were unreachable then are cleaned up now;
        ``receipt.hosts`` shows which still are. Raises what ``wait`` raises.
        """
        ended = self.receipt
        if ended is None:
            self.request_stop(grace)
            return await self.wait()
        await self.finish()
        return self.receipt or ended

    async def finish(self, on_event: OnEvent | None = None) -> list[HostError]:
        """Clean up an ended run on hosts that were unreachable when it ended, and store the rest of its
        outputs. ``on_event`` gets StoreProgressed.

        Return the errors of hosts that still are. Raises StoreError.
        """
        from ..runner.ended_runs import finish

        async with self._client.hosts_up(self._following.request.inventory):
            found = await finish(self._following.request, self.layout)
            await self._store_rest(on_event)
            return found

    async def logs(
        self,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        merged: bool = False,
        timed: bool = False,
        ranks: Collection[int] | None = None,
    ) -> AsyncGenerator[LogPiece, None]:
        """Yield the logs of all processes, from their beginning, as pieces of bytes, which end
        anywhere: ``lines`` yields whole lines.

        With ``follow``, continue until the run ends. ``since`` is how many seconds to look back,
        ``tail`` how many last lines of each log to yield, and ``ranks`` are those to yield. Logs come
        one after the other; ``merged`` yields them in order of arrival, to the second; with ``timed``,
        pieces say when they arrived. If the run has no follower, missing logs are fetched from its
        hosts first. Raises LauncherError.
        """
        ranks = _ranks(ranks)
        await self._bring_if_nobody_does()
        reader = self.reader()
        for piece in self._of(ranks, reader.logs(since, tail, merged, timed)):
            yield piece
        while follow and reader.receipt() is None:
            await asyncio.sleep(LOOK)
            for piece in self._of(ranks, reader.new_logs()):
                yield piece
        for piece in self._of(ranks, reader.new_logs()):
            yield piece

    async def lines(
        self,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        merged: bool = False,
        timed: bool = False,
        ranks: Collection[int] | None = None,
    ) -> AsyncGenerator[LogLine, None]:
        """Yield the logs of all processes as whole lines, from their beginning.

        The arguments are those of ``logs``. Lines of one log come in their order; what a log ends with
        that is no whole line comes last. Raises LauncherError.
        """
        from ..records.log_lines import LineCutter  # the command line has its own

        cutter = LineCutter()
        pieces = self.logs(
            follow=follow, since=since, tail=tail, merged=merged, timed=timed, ranks=ranks
        )
        async with aclosing(pieces):
            async for piece in pieces:
                for line in cutter.feed(piece.host, piece.name, piece.data, piece.arrived):
                    yield line
        for line in cutter.end():
            yield line

    async def pull(
        self,
        dest: Path | str | None = None,
        *,
        also: Sequence[str] = (),
        only: Sequence[str] = (),
        max_rate: int = 0,
        on_event: OnEvent | None = None,
    ) -> Pulled:
        """Bring logs and outputs back as they are on the hosts now; the run continues.

        They are in ``folder`` then; with ``dest`` they go straight there instead. ``also`` are
        patterns of files that the run wrote to its workdir and that are no outputs; without ``dest``
        they are brought from now on. ``only``, for ``dest`` alone, are patterns of the files to bring,
        also of those that stay on the hosts by ``Job.keep_on_host``. They keep to ``max_rate`` bytes a
        second (0: what the run has), unless another process follows the run. ``on_event`` gets
        OutputsProgressed where this process does the copying, and StoreProgressed. Raises LauncherError.
        """
        also, only = given.value("also", _TEXTS, also), given.value("only", _TEXTS, only)
        if dest is not None:
            require_path(dest, "dest")
        if only and dest is None:
            raise InputError(
                "only part of the outputs can be brought to a folder of yours, not to the run's",
                f"launcher pull {self.name} DEST --only {only[0]}",
            )
        from ..runner.concurrency import limited

        request = self._following.request
        async with self._client.hosts_up(request.inventory):
            if dest is None:
                with limited(max_rate):
                    brought = await bring(self._following, also, on_event)
                pulled = await asyncio.to_thread(_brought, self.folder, brought)
                return replace(pulled, stored=await self._store_rest(on_event))
            from ..runner.files.choice import Choice
            from ..runner.files.fetch import fetch

            choice = Choice.of(request.job, tuple(also), tuple(only))
            wants = on_event or ignore_event
            place = Path(dest)
            with limited(max_rate or request.max_rate):
                got = await fetch(request, self.layout, self.folder, place, choice, wants)
            stored = await self._store_rest(on_event)
        size, where = got.outputs.total, place / "outputs"
        return Pulled(where, len(got.outputs), size, got.failed, got.not_brought, stored)

    async def _store_rest(self, on_event: OnEvent | None) -> StoredOutputs | None:
        """Write to the job's store what is not there yet, once the run has ended."""
        if not self._following.request.job.output_to:
            return None
        from ..runner.files.stored_again import store_rest

        told = on_event or ignore_event
        return await store_rest(self._following.request, self.layout, self.folder, told)

    async def pull_stored(self, dest: Path | str, on_event: OnEvent | None = None) -> Restored:
        """Bring what the job's store has of the run into a folder, compared with its sums; no host is
        asked. What is there already, and is the same, stays. ``on_event`` gets StoreProgressed.
        Raises InputError, LauncherError."""
        from ..runner.credentials import require
        from ..runner.files.stored_again import restore

        job = self._following.request.job
        if not job.output_to:
            raise InputError(
                f"{self.name} stored nothing", "launcher run --output-to s3://... stores outputs"
            )
        require(job)
        return await restore(job, self.folder, Path(dest), on_event or ignore_event)

    async def not_brought(self) -> tuple[NotBrought, ...]:
        """Ask the hosts what they have of the run that is not here, and that ``rm`` would delete.

        A host that does not answer is left out.
        """
        from ..runner.ended_runs import left_there

        request = self._following.request
        async with self._client.hosts_up(request.inventory):
            return await left_there(request, self.layout, self.folder)

    def request_pull(self) -> None:
        """Ask the follower to bring outputs back, and return at once."""
        self._following.pull_now()

    async def exec(
        self,
        argv: Sequence[str],
        *,
        node: int | None = None,
        role: str | None = None,
        on_output: OnOutput | None = None,
    ) -> list[ExecResult]:
        """Run a command on all hosts of the run at once, on those of a ``role`` in its environment or
        image, or on one ``node`` (0 to N-1).

        It gets the run's folder and environment, without secrets, and is not part of the run. Return
        a result for each host with its output, unless ``on_output(host, node, stream, data)`` gets
        the output as it comes. Raises InputError for an unknown node or role.
        """
        from ..runner.remote_commands import execute_on_hosts

        request, words = self._following.request, given.words("argv", argv)
        async with self._client.hosts_up(request.inventory):
            return await execute_on_hosts(request, self.layout, words, node, on_output, role)

    async def forward(
        self,
        port: int,
        *,
        local_port: int = 0,
        node: int = 0,
        on_ready: Callable[[str, int], None],
        on_refused: Callable[[HostError], None] = ignore_error,
    ) -> None:
        """Pass connections to a port of this machine (0: a free one) on to one of a node, until
        cancelled.

        ``on_ready`` gets the name of the host and the port here, ``on_refused`` the error of each
        connection that nothing takes there. Raises InputError if the port here is taken, HostError.
        """
        from ..runner import forwarding

        request = self._following.request
        async with self._client.hosts_up(request.inventory):
            await forwarding.forward(
                request, self.layout, node, port, local_port, on_ready, on_refused
            )

    async def shell(
        self,
        talk: Callable[[RemoteShell], Awaitable[None]],
        *,
        node: int | None = None,
        role: str | None = None,
        terminal: tuple[str, int, int] = ("xterm", 80, 24),
    ) -> int:
        """Open a terminal in the run's folder on one node, the first one by default or the first of a
        ``role``, and return the exit code of its shell.

        ``talk`` writes to it and reads from it; ``terminal`` is its type, columns and lines. Raises
        InputError, HostError.
        """
        from ..runner.remote_commands import open_shell

        request = self._following.request
        async with self._client.hosts_up(request.inventory):
            return await open_shell(request, self.layout, node, terminal, talk, role)

    async def rm(self, force: bool = False) -> list[HostError]:
        """Delete a run that has ended: its folder here, outputs included, and on every host.

        Raises InputError while it is followed, and RunKept if a host is unreachable: then nothing is
        deleted here. With ``force`` it is deleted here regardless, and the errors of those hosts are
        returned.
        """
        from ..runner.ended_runs import forget

        if (other := follower(self.folder)) is not None:
            raise InputError(
                f"{self.name} is still running, and {other} follows it",
                f"stop it first: launcher stop {self.name}",
            )
        request = self._following.request
        async with self._client.hosts_up(request.inventory):
            errors = await forget(request, self.layout, self._readable_receipt())
        if errors and not force:
            raise RunKept(self.name, errors)
        await asyncio.to_thread(shutil.rmtree, self.folder)
        return errors

    def _readable_receipt(self) -> Receipt | None:
        try:
            return self.receipt
        except UnreadableRecord:
            return None

    async def _bring_if_nobody_does(self) -> None:
        if self.receipt is None and not self.followed:
            async with self._client.hosts_up(self._following.request.inventory):
                await bring(self._following)


class RunHandle(RecordedRun):
    """One run. ``Client`` returns it; it works while its client is open.

    It can be used from several threads, and where an event loop runs, as in a notebook.
    """

    def __init__(self, handle: AsyncRunHandle, loop: LoopThread) -> None:
        super().__init__(handle._following)
        self._handle, self._loop = handle, loop

    def wait(self, timeout: float | None = None, *, progress: bool | None = None) -> Receipt:
        """Wait until the run ends, and return its receipt.

        If the run has no follower, this client follows it until it ends or the client is closed.
        Raises TimeoutError after ``timeout`` seconds, and the run continues; LauncherError if this
        machine cannot hold its records. Ctrl-C ends the waiting; closing the client then
        stops a run that it started.

        In a notebook and at a terminal, a line shows how the run stands, unless callbacks get its
        events or logs; ``progress`` says otherwise.
        """
        wanted = not self._handle.is_heard if progress is None else progress
        with shown(self.folder, wanted):
            return self._loop.call(self._handle.wait(timeout))

    def detach(self, in_background: bool = True) -> Receipt | None:
        """Stop following the run, which keeps running; return its receipt if it ended meanwhile.

        A background process follows it from then on, as with ``detach`` of ``Client.run``; without
        ``in_background`` nobody does, unless another process already did. Ranks that are being
        restarted are waited for. A run whose ranks have not all started yet is stopped: nobody else
        could start it. Raises LauncherError.
        """
        return self._loop.call(self._handle.detach(in_background))

    def wait_until_started(
        self, on_event: OnEvent | None = None, *, or_waits: bool = False
    ) -> Receipt | None:
        """Wait until all processes run, or with ``or_waits`` until the run waits for its turn.

        Return None then, or the receipt if it ended before.

        ``on_event`` gets the events until then, in another thread. Raises LauncherError if the run's
        follower died.
        """
        return self._loop.call(self._handle.wait_until_started(on_event, or_waits=or_waits))

    def move(self, priority: int | None = None, *, first: bool = False) -> None:
        """Let a run that waits for GPUs wait with another priority (-1, 0 or 1), or before all others of
        the same one. Raises InputError if it does not wait."""
        self._handle.move(priority, first=first)

    def request_stop(self, grace: float | None = None) -> None:
        """Ask the run to stop, and return at once; ask again to kill without grace.

        ``grace`` is in seconds; None takes the job's. Callbacks may call it. A run that has ended
        ignores it; a run without a follower stops with the next ``wait`` or ``stop``.
        """
        wanted = _grace(grace)
        self._loop.soon(partial(self._handle.request_stop, wanted))

    def stop(self, grace: float | None = None) -> Receipt:
        """Stop the run on all its hosts, and return its receipt, with what is left on each host.

        Processes get SIGTERM, and SIGKILL after ``grace`` seconds (None: the job's); outputs are
        brought back. If the run has ended, hosts that were unreachable then are cleaned up now;
        ``receipt.hosts`` shows which still are. Raises what ``wait`` raises.
        """
        return self._loop.call(self._handle.stop(grace))

    def logs(
        self,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        merged: bool = False,
        timed: bool = False,
        ranks: Collection[int] | None = None,
    ) -> Iterator[LogPiece]:
        """Yield the logs of all processes, from their beginning, as pieces of bytes, which end
        anywhere: ``lines`` yields whole lines.

        With ``follow``, continue until the run ends. ``since`` is how many seconds to look back,
        ``tail`` how many last lines of each log to yield, and ``ranks`` are those to yield. Logs come
        one after the other; ``merged`` yields them in order of arrival, to the second; with ``timed``,
        pieces say when they arrived. If the run has no follower, missing logs are fetched from its
        hosts first. Raises LauncherError.
        """
        ranks = _ranks(ranks)
        if self.receipt is None and not self.followed:
            self._loop.call(self._handle._bring_if_nobody_does())
        reader = self.reader()
        yield from self._of(ranks, reader.logs(since, tail, merged, timed))
        while follow and reader.receipt() is None:
            time.sleep(LOOK)
            yield from self._of(ranks, reader.new_logs())
        yield from self._of(ranks, reader.new_logs())

    def lines(
        self,
        *,
        follow: bool = False,
        since: float | None = None,
        tail: int | None = None,
        merged: bool = False,
        timed: bool = False,
        ranks: Collection[int] | None = None,
    ) -> Iterator[LogLine]:
        """Yield the logs of all processes as whole lines, from their beginning.

        The arguments are those of ``logs``. Lines of one log come in their order; what a log ends with
        that is no whole line comes last. Raises LauncherError.
        """
        from ..records.log_lines import LineCutter  # the command line has its own

        cutter = LineCutter()
        for piece in self.logs(
            follow=follow, since=since, tail=tail, merged=merged, timed=timed, ranks=ranks
        ):
            yield from cutter.feed(piece.host, piece.name, piece.data, piece.arrived)
        yield from cutter.end()

    def pull(
        self,
        dest: Path | str | None = None,
        *,
        also: Sequence[str] = (),
        only: Sequence[str] = (),
        max_rate: int = 0,
        on_event: OnEvent | None = None,
    ) -> Pulled:
        """Bring logs and outputs back as they are on the hosts now; the run continues.

        They are in ``folder`` then; with ``dest`` they go straight there instead. ``also`` are
        patterns of files that the run wrote to its workdir and that are no outputs; without ``dest``
        they are brought from now on. ``only``, for ``dest`` alone, are patterns of the files to bring,
        also of those that stay on the hosts by ``Job.keep_on_host``. They keep to ``max_rate`` bytes a
        second (0: what the run has), unless another process follows the run. ``on_event`` gets
        OutputsProgressed where this process does the copying, in another thread. Raises LauncherError.
        """
        return self._loop.call(
            self._handle.pull(dest, also=also, only=only, max_rate=max_rate, on_event=on_event)
        )

    def pull_stored(self, dest: Path | str) -> Restored:
        """Bring what the job's store has of the run into a folder, compared with its sums; no host is
        asked. What is there already, and is the same, stays. Raises InputError, LauncherError."""
        return self._loop.call(self._handle.pull_stored(dest))

    def not_brought(self) -> tuple[NotBrought, ...]:
        """Ask the hosts what they have of the run that is not here, and that ``rm`` would delete.

        A host that does not answer is left out.
        """
        return self._loop.call(self._handle.not_brought())

    def request_pull(self) -> None:
        """Ask the follower to bring outputs back, and return at once. Callbacks may call it."""
        self._loop.soon(self._handle.request_pull)

    def exec(
        self,
        argv: Sequence[str],
        *,
        node: int | None = None,
        role: str | None = None,
        on_output: OnOutput | None = None,
    ) -> list[ExecResult]:
        """Run a command on all hosts of the run at once, on those of a ``role`` in its environment or
        image, or on one ``node`` (0 to N-1).

        It gets the run's folder and environment, without secrets, and is not part of the run. Return
        a result for each host with its output, unless ``on_output(host, node, stream, data)`` gets
        the output as it comes, in another thread. Raises InputError for an unknown node or role.
        """
        return self._loop.call(self._handle.exec(argv, node=node, role=role, on_output=on_output))

    def rm(self, force: bool = False) -> list[HostError]:
        """Delete a run that has ended: its folder here, outputs included, and on every host.

        Raises InputError while it is followed, and RunKept if a host is unreachable: then nothing is
        deleted here. With ``force`` it is deleted here regardless, and the errors of those hosts are
        returned.
        """
        return self._loop.call(self._handle.rm(force))


def _grace(wanted: float | None) -> float | None:
    found: float | None = given.value("grace", float | None, wanted)
    given.require("grace", found, 0)
    return found


def _ranks(wanted: Collection[int] | None) -> tuple[int, ...] | None:
    found: tuple[int, ...] | None = given.value("ranks", tuple[int, ...] | None, wanted)
    return found


def _is_broken(task: asyncio.Task[Receipt]) -> bool:
    return task.cancelled() or task.exception() is not None


def _brought(folder: Path, brought: Brought) -> Pulled:
    place = folder / "outputs"
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    return Pulled(place, len(sizes), sum(sizes), brought.failed, brought.not_brought)
