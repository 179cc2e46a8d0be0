"""Handles of one run, for programs on asyncio: ``AsyncRunHandle``."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..records.receipt import NotBrought, Receipt, StoredOutputs
from ..records.run_lock import follower
from ..records.run_reader import LogPiece
from ..runner.attach import LOOK, Following, bring, until_let_go, until_started
from ..runner.listeners import OnEvent, ignore_event
from ..spec import given
from ..spec.errors import HostError, InputError, RunKept, UnreadableRecord
from ..spec.files import require_path
from ..spec.frozen import frozen
from ..spec.model import Inventory
from .progress import shown
from .recorded_run import RecordedRun

if TYPE_CHECKING:
    from ..records.log_lines import LogLine
    from ..runner.files.stored_again import Restored
    from ..runner.remote_commands import ExecResult, OnOutput, RemoteShell
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
        grace = grace_of(grace)
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
        ranks = ranks_of(ranks)
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

        Raises InputError while it is followed, and RunKept if a host is unreachable, or says that it
        goes on there: then nothing is deleted here. With ``force`` it is deleted here regardless, and
        the errors of those hosts are returned.
        """
        from ..runner.ended_runs import forget

        if (other := follower(self.folder)) is not None:
            raise InputError(
                f"{self.name} is still running, and {other} follows it",
                f"stop it first: launcher stop {self.name}",
            )
        request = self._following.request
        async with self._client.hosts_up(request.inventory):
            errors = await forget(request, self.layout, self._readable_receipt(), force)
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


def grace_of(wanted: float | None) -> float | None:
    """Return seconds of grace that somebody gave. Raises InputError."""
    found: float | None = given.value("grace", float | None, wanted)
    given.require("grace", found, 0)
    return found


def ranks_of(wanted: Collection[int] | None) -> tuple[int, ...] | None:
    """Return ranks that somebody named. Raises InputError."""
    found: tuple[int, ...] | None = given.value("ranks", tuple[int, ...] | None, wanted)
    return found


def _is_broken(task: asyncio.Task[Receipt]) -> bool:
    return task.cancelled() or task.exception() is not None


def _brought(folder: Path, brought: Brought) -> Pulled:
    place = folder / "outputs"
    sizes = [path.stat().st_size for path in place.rglob("*") if path.is_file()]
    return Pulled(place, len(sizes), sum(sizes), brought.failed, brought.not_brought)
