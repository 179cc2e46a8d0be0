"""Handles of one run: ``RunHandle``, and ``AsyncRunHandle`` for asyncio."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..records.receipt import NotBrought, Receipt
from ..records.run_reader import LogPiece
from ..runner.attach import LOOK
from ..runner.listeners import OnEvent
from ..spec.errors import HostError
from .async_handle import AsyncRunHandle, Pulled, grace_of, ranks_of
from .loop_thread import LoopThread
from .progress import shown
from .recorded_run import RecordedRun

if TYPE_CHECKING:
    from ..records.log_lines import LogLine
    from ..runner.files.stored_again import Restored as Restored
    from ..runner.remote_commands import ExecResult as ExecResult
    from ..runner.remote_commands import OnOutput as OnOutput
    from ..runner.remote_commands import RemoteShell as RemoteShell

__all__ = ["AsyncRunHandle", "Pulled", "RecordedRun", "RunHandle"]


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
        wanted = grace_of(grace)
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
        ranks = ranks_of(ranks)
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

        Raises InputError while it is followed, and RunKept if a host is unreachable, or says that it
        goes on there: then nothing is deleted here. With ``force`` it is deleted here regardless, and
        the errors of those hosts are returned.
        """
        return self._loop.call(self._handle.rm(force))
