"""Starts and finds runs: ``Client``, and ``AsyncClient`` for asyncio."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack

from ..records.catalog import Summary, Wanted, is_pattern
from ..records.record_files import write_at_home
from ..spec.errors import HostError, UnknownRun
from ..spec.home import home
from ..spec.model import Facts, Inventory, Job
from .arguments import RerunOptions, RunArguments, RunOptions
from .async_client import AsyncClient
from .recorded_runs import RecordedRuns

if TYPE_CHECKING:
    from ..fleet.kept_pythons import Kept as Kept
    from ..fleet.kept_pythons import KeptPython as KeptPython
    from ..runner.cluster import Cluster as Cluster
    from ..runner.cluster import HostNow as HostNow
    from ..runner.cluster import RunNow as RunNow
    from ..runner.listeners import OnEvent as OnEvent
    from ..runner.listeners import OnLog as OnLog
    from ..runner.project_list import ProjectShare as ProjectShare
    from ..runner.push import Pushed
    from ..runner.queue import Holding as Holding
    from ..runner.queue import Queue as Queue
    from ..runner.queue import Waiting as Waiting
    from ..runner.remote_commands import ExecResult, OnOutput
    from ..runner.remote_runs import HostRuns
    from .handles import AsyncRunHandle, RunHandle


__all__ = [
    "AsyncClient",
    "Client",
    "RunOptions",
    "Summary",
    "Wanted",
    "home",
    "is_pattern",
    "write_at_home",
]


class Client(RecordedRuns):
    """Starts, finds and follows runs. Use it with ``with``:

        with launcher.Client("inventory/lab.yaml") as client:
            run = client.run(job)
            for piece in run.logs(follow=True):
                print(piece.host, piece.data)
            receipt = run.wait()

    ``inventory`` is a file or an Inventory, for ``run``, ``host_runs``, and to find runs of
    other machines. ``command_line`` is recorded with runs. Nothing is read or opened before it is
    needed. A thread that ends with the client does the work with hosts and calls callbacks. If the
    program ends without closing the client, processes in the background follow its runs.
    """

    def __init__(
        self,
        inventory: Inventory | str | os.PathLike[str] | None = None,
        *,
        command_line: tuple[str, ...] = (),
    ) -> None:
        from .loop_thread import LoopThread

        self._inventory = inventory
        self._client = AsyncClient(inventory, command_line=command_line)
        self._loop = LoopThread(self._leave)

    def reload(self) -> None:
        """Read the inventory's file again, as after a change. Raises what ``inventory`` raises."""
        super().reload()
        self._client.reload()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the runs that this client started and still follows, and wait for their receipts.

        Runs that it attached to continue on their hosts. Ctrl-C meanwhile kills the stopping runs. In a
        forked process this does nothing: the runs are followed by its parent.
        """
        try:
            if self._client._live and not self._loop.is_of_parent:
                self._loop.call(self._client.aclose())
        except KeyboardInterrupt:
            self._loop.call(self._client.aclose())
            raise
        finally:
            self._loop.close()

    def _leave(self) -> None:
        """Hand the runs that this client follows over, as the program ends without closing it. Ctrl-C
        meanwhile stops them, as closing does."""
        with suppress(KeyboardInterrupt):
            try:
                self._loop.call(self._client._leave_all(_tell))
            finally:
                self.close()

    def run(
        self,
        job: Job | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        detach: bool = False,
        add_files: Mapping[str, bytes] | None = None,
        on_event: OnEvent | None = None,
        on_log: OnLog | None = None,
        **options: Unpack[RunArguments],
    ) -> RunHandle:
        """Start a job on the hosts of this client's inventory, and return its handle.

        ``job`` is a ``Job``, or a command or a job file, with values of ``FunctionJob`` beside
        the options: ``run("train.py --lr 0.1", gpus=16, envs={"SEED": "1"})``. It returns before
        any host is reached; later failures are in the receipt. This client follows the run; with
        ``detach`` a separate process does, which outlives this program, and this returns once the
        run is recorded. ``on_event`` gets every event of the run, and
        ``on_log(host, name, data)`` the new bytes of each log, both in the client's thread; of a
        detached run they get what is read by ``RunHandle.wait``. ``add_files`` are added to the
        code that hosts get, by their paths in it, and not to the workdir here. Options are those
        of ``RunOptions``.

        Raises InputError for what is wrong before anything starts, and LauncherError if this machine
        cannot create the run's folder.
        """
        started = self._client.run(
            job,
            detach=detach,
            add_files=add_files,
            on_event=on_event,
            on_log=on_log,
            **options,
        )
        return self._handle(self._loop.call(started))

    def reserve(
        self,
        gpus: int | str,
        seconds: float,
        hosts: str | None = None,
        *,
        at: float | None = None,
        name: str = "",
        on_event: OnEvent | None = None,
        **options: Unpack[RunOptions],
    ) -> RunHandle:
        """Hold so many GPUs, also of a model (``A100:4``), for so many seconds, on as few of the
        ``hosts`` as have them: a run without ranks, which a separate process follows.

        It takes its turn as any run, from the moment ``at`` on with high priority. ``stop`` ends it
        early. Raises what ``run`` raises.
        """
        reserving = self._client.reserve(
            gpus, seconds, hosts, at=at, name=name, on_event=on_event, **options
        )
        return self._handle(self._loop.call(reserving))

    def rerun(
        self,
        name: str,
        *,
        detach: bool = False,
        trust_record: bool = False,
        on_event: OnEvent | None = None,
        on_log: OnLog | None = None,
        **changes: Unpack[RerunOptions],
    ) -> RunHandle:
        """Run a run again: the same code snapshot, job and hosts, but for ``changes``, which are those
        of ``RerunOptions``.

        Values of secrets come from this program's environment. Callbacks, ``detach`` and errors are
        those of ``run``, names and ``trust_record`` those of ``attach``; without that, a run
        with ``RunHandle.doubts`` raises InputError.
        """
        started = self._client.rerun(
            name,
            detach=detach,
            trust_record=trust_record,
            on_event=on_event,
            on_log=on_log,
            **changes,
        )
        return self._handle(self._loop.call(started))

    def exec(
        self, argv: Sequence[str], hosts: str | None = None, *, on_output: OnOutput | None = None
    ) -> Sequence[ExecResult]:
        """Run a command on hosts of the inventory at once, in a login's home and environment there.

        ``hosts`` are names, node sets, groups or labels; None takes all. Results and ``on_output`` are
        those of ``RunHandle.exec``. Raises InputError.
        """
        return self._loop.call(self._client.exec(argv, hosts, on_output=on_output))

    def push(
        self,
        folder: Path | str,
        hosts: str | None = None,
        *,
        to: str | None = None,
        exclude: Sequence[str] = (),
        max_rate: int = 0,
        on_event: OnEvent | None = None,
    ) -> dict[str, Pushed | HostError]:
        """Copy what is in a folder here to hosts of the inventory at once; only changes travel.

        ``hosts`` are names, node sets, groups or labels; None takes all. ``to`` is the folder there: a
        whole path, or one below the home as ``~/data``; None takes the folder's name in the home.
        ``exclude`` are patterns of rsync. All together keep to ``max_rate`` bytes a second (0: no
        limit). ``on_event`` gets SyncProgressed, in another thread. Return
        the result or the error of each host. Raises InputError.
        """
        pushing = self._client.push(
            folder, hosts, to=to, exclude=exclude, max_rate=max_rate, on_event=on_event
        )
        return self._loop.call(pushing)

    def attach(
        self,
        name: str,
        *,
        trust_record: bool = False,
        on_event: OnEvent | None = None,
        on_log: OnLog | None = None,
    ) -> RunHandle:
        """Return the handle of a run that any process started before.

        ``name`` may be the beginning of a name, or ``-`` for the latest. A run that is not recorded
        here is looked up on the hosts of this client's inventory. If such a run has
        ``RunHandle.doubts``, this machine never starts it again unless ``trust_record`` allows it
        to start processes, and to send secrets, as the hosts say. Nothing is followed before
        ``RunHandle.wait``, which calls ``on_event`` with what is new from then on, and
        ``on_log(host, name, data)`` with the bytes that were not shown before, both in the client's
        thread. Raises InputError.
        """
        try:  # no thread is needed unless hosts are asked
            found = self._client.attach_here(name, on_event, on_log, trust_record)
        except UnknownRun:
            attaching = self._client.attach(
                name, trust_record=trust_record, on_event=on_event, on_log=on_log
            )
            found = self._loop.call(attaching)
        return self._handle(found)

    def rm(self, name: str, force: bool = False) -> list[HostError]:
        """Remove a run of this machine that has ended, here and on its hosts.

        Like ``RunHandle.rm``, but also for a run that ended before it was recorded. Raises
        InputError, RunKept.
        """
        return self._loop.call(self._client.rm(name, force))

    def host_runs(self) -> dict[str, HostRuns | HostError]:
        """Ask the hosts of the inventory for runs of all users; return the answer or error of each.

        Raises InputError.
        """
        return self._loop.call(self._client.host_runs())

    def host_gpus(self) -> dict[str, Facts | HostError]:
        """Ask the hosts of the inventory about their GPUs; return the facts or error of each.

        Raises InputError.
        """
        return self._loop.call(self._client.host_gpus())

    def kept_pythons(self, end: bool = False) -> dict[str, Kept | HostError]:
        """Ask the hosts of the inventory which Pythons they keep for the next run (``keep_warm``); with
        ``end``, have them end all of yours. Return the answer or error of each. Raises InputError."""
        return self._loop.call(self._client.kept_pythons(end))

    def queue(self) -> tuple[Queue, dict[str, HostError]]:
        """Ask the hosts of the inventory who holds their GPUs, who waits for them, and what for. Return
        that, and the errors of hosts that could not be asked. Raises InputError."""
        return self._loop.call(self._client.queue())

    def projects(self) -> tuple[tuple[ProjectShare, ...], tuple[str, ...]]:
        """Return what each project of the inventory has, and which hosts could not be asked."""
        return self._loop.call(self._client.projects())

    def cluster(self, seconds: float = 15.0) -> Cluster:
        """Return what the GPUs of the inventory's hosts do now, who holds them, and who waits.

        A host that has not answered after so many ``seconds`` says so in its place. Raises InputError.
        """
        return self._loop.call(self._client.cluster(seconds))

    def _handle(self, handle: AsyncRunHandle) -> RunHandle:
        from .handles import RunHandle

        return RunHandle(handle, self._loop)


def _tell(line: str) -> None:
    """Print a line for a person, unless the program has no stderr."""
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"launcher: {line}\n")
        sys.stderr.flush()
