"""Starts and finds runs, for programs on asyncio: ``AsyncClient``."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from ..records import catalog
from ..records.notes import Notes
from ..records.run_folder import RunFolder
from ..records.run_lock import holder
from ..spec import given
from ..spec.errors import (
    HostError,
    InputError,
    LauncherError,
    NewerRecord,
    StoreError,
    UnknownRun,
    UnreadableRecord,
)
from ..spec.files import require_path
from ..spec.model import Inventory, Job, Request
from .arguments import RerunOptions, RunArguments, RunOptions
from .host_requests import HostRequests

# Listing runs needs no more; the runner is imported with the first run.
if TYPE_CHECKING:
    from ..records.receipt import Receipt
    from ..runner.attach import Following
    from ..runner.follow_all import News
    from ..runner.listeners import OnEvent, OnLog
    from .async_handle import AsyncRunHandle
    from .host_requests import AskPassphrase


class AsyncClient(HostRequests):
    """Starts, finds and follows runs, for programs on asyncio. Use it with ``async with``:

        async with launcher.AsyncClient("inventory/lab.yaml") as client:
            run = await client.run(job)
            async for piece in run.logs(follow=True):
                print(piece.host, piece.data)
            receipt = await run.wait()

    ``inventory`` is a file or an Inventory, for ``run``, ``host_runs``, and to find runs of
    other machines. ``ask_passphrase`` is awaited with the name of a key file whose passphrase is
    needed. ``command_line`` is recorded with runs. Nothing is read or opened before it is needed.
    """

    def __init__(
        self,
        inventory: Inventory | str | os.PathLike[str] | None = None,
        *,
        ask_passphrase: AskPassphrase | None = None,
        command_line: tuple[str, ...] = (),
    ) -> None:
        if not isinstance(inventory, Inventory | None):
            require_path(inventory, "inventory")
        self._inventory = inventory
        self._ask_passphrase, self._command_line = ask_passphrase, command_line
        self._live: dict[asyncio.Task[Receipt], Following] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop the runs that this client started and still follows, and wait for their receipts.

        Runs that it attached to continue on their hosts.
        """
        for task, following in list(self._live.items()):
            if following.is_ours:
                following.stop()
            else:
                task.cancel()
        if self._live:
            await asyncio.wait(self._live)

    async def _leave_all(self, tell: Callable[[str], None]) -> None:
        """Have a process in the background follow each run that this client follows, as
        ``AsyncRunHandle.detach`` does. One that has not begun yet is waited for: nobody else could start
        it. ``tell`` gets a line about it, and about what fails."""
        while self._live:
            await asyncio.gather(*(self._leave(*one, tell) for one in self._live.items()))

    async def _leave(
        self, task: asyncio.Task[Receipt], following: Following, tell: Callable[[str], None]
    ) -> None:
        from ..runner.attach import LOOK
        from .async_handle import AsyncRunHandle

        run = AsyncRunHandle(self, following, task=task)
        is_told = False  # that it is waited for
        while not (task.done() or run.followed_by_another or run.state().is_on_its_own):
            if not is_told:
                tell(
                    f"{run.name} has not begun yet; this program waits until it has: Ctrl-C stops it"
                )
                is_told = True
            await asyncio.sleep(LOOK)
        try:
            if not task.done():
                await run.detach()
            elif is_told and not task.cancelled():
                ended = task.result()
                tell(f"{run.name} {ended.status} ({ended.reason}): launcher show {run.name}")
        except LauncherError as error:
            tell(f"{run.name}: {error}")

    async def run(
        self,
        job: Job | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        detach: bool = False,
        add_files: Mapping[str, bytes] | None = None,
        on_event: OnEvent | None = None,
        on_log: OnLog | None = None,
        **options: Unpack[RunArguments],
    ) -> AsyncRunHandle:
        """Start a job on the hosts of this client's inventory, and return its handle.

        ``job`` is a ``Job``, or a command or a job file, with values of ``FunctionJob`` beside
        the options: ``run("train.py --lr 0.1", gpus=16, envs={"SEED": "1"})``. It returns before
        any host is reached; later failures are in the receipt. This client follows the run; with
        ``detach`` a separate process does, which outlives this program, and this returns once the
        run is recorded. ``on_event`` gets every event of the run, and
        ``on_log(host, name, data)`` the new bytes of each log, both in the event loop; of a
        detached run they get what is read by ``AsyncRunHandle.wait``. ``add_files`` are added to
        the code that hosts get, by their paths in it, and not to the workdir here. Options are
        those of ``RunOptions``.

        Raises InputError for what is wrong before anything starts, and LauncherError if this machine
        cannot create the run's folder.
        """
        from ..runner import notify
        from ..runner.requests import make_request

        given.names(RunArguments, options)
        _check_added(add_files or {})
        _check_callbacks(on_event, on_log)
        job = _job_of(job, options)
        options = cast(RunArguments, given.values(RunOptions, options))
        to = options.pop("notify", ())
        notify.check(to)
        if detach and options.get("stdin"):
            raise InputError(
                "--stdin: a detached run outlives this program, and with it its stdin",
                "leave out --detach, or pass the input as a file of the workdir",
            )
        notes = Notes().changed(options.pop("tags", ()), note=options.pop("note", ""))
        earlier = await self._earlier(options.pop("continue_from", ""))
        request = make_request(
            job,
            self.inventory,
            command_line=self._command_line,
            ask_passphrase=self._ask_passphrase,
            **earlier,
            **cast(RunOptions, options),
        )
        folder = self._folder(request, to, notes)
        folder.add_files(add_files or {})
        return await self._start(request, folder, detach, on_event, on_log)

    async def reserve(
        self,
        gpus: int | str,
        seconds: float,
        hosts: str | None = None,
        *,
        at: float | None = None,
        name: str = "",
        on_event: OnEvent | None = None,
        **options: Unpack[RunOptions],
    ) -> AsyncRunHandle:
        """Hold so many GPUs, also of a model (``A100:4``), for so many seconds, on as few of the
        ``hosts`` as have them: a run without ranks, which a separate process follows.

        It takes its turn as any run, from the moment ``at`` on with high priority. ``stop`` ends it
        early. In the name of a ``project``, it needs to fit into the quota: it never borrows. Raises
        what ``run`` raises.
        """
        from . import reservations

        seconds = given.value("seconds", float, seconds)
        job = reservations.job_of(gpus, seconds, hosts, name)
        reservations.require_quota(job, self.inventory, options.get("project"))
        chosen: RunOptions = {
            "time_limit": seconds + reservations.SLACK,
            "stall_timeout": 2 * reservations.LONGEST,  # it does nothing, on purpose
        }
        if at is not None:
            chosen |= {"priority": 1, "not_before": at}
        chosen |= options
        return await self.run(job, detach=True, on_event=on_event, **chosen)

    async def _earlier(self, text: str) -> dict[str, Any]:
        """Return the options of a request that continues from ``RUN`` or ``RUN:PATH``."""
        if not text:
            return {}
        name, _, path = text.partition(":")
        old, paths = self.attach_here(name), (path,) if path else ()
        await _require_outputs(old, paths)
        return {"resume_from": old.name, "resume_paths": paths}

    async def rerun(
        self,
        name: str,
        *,
        detach: bool = False,
        trust_record: bool = False,
        on_event: OnEvent | None = None,
        on_log: OnLog | None = None,
        **changes: Unpack[RerunOptions],
    ) -> AsyncRunHandle:
        """Run a run again: the same code snapshot, job and hosts, but for ``changes``, which are those
        of ``RerunOptions``.

        Values of secrets come from this program's environment. Callbacks, ``detach`` and errors are
        those of ``run``, names and ``trust_record`` those of ``attach``; without that, a run
        with ``AsyncRunHandle.doubts`` raises InputError.
        """
        from ..runner.requests import changed

        changes = cast(RerunOptions, given.values(RerunOptions, changes))
        _check_callbacks(on_event, on_log)
        notes = Notes().changed(changes.get("tags", ()), note=changes.get("note", ""))
        old = await self.attach(name, trust_record=trust_record)
        if old.doubts:
            raise InputError(
                f"{old.name} was started elsewhere, and its record is in doubt: {old.doubts[0]}",
                "trust_record=True runs what its hosts say",
            )
        missing = [name for name in old.reader().secret_names if name not in os.environ]
        if missing:
            raise InputError(
                f"secret {missing[0]} is not set in your environment",
                f"export {missing[0]}=... first",
            )
        request = old._following.request
        resume_from = old.name if changes.get("from_checkpoint") else None
        if resume_from:
            await _require_outputs(old)
        wanted = (changes.get("arguments"), changes.get("hosts"), changes.get("gpus"))
        request = changed(request, old.layout, *wanted)
        request = replace(
            request,
            code_of=old.name,
            resume_from=resume_from,
            command_line=self._command_line,
        )
        folder = self._folder(request, (), notes)
        folder.take_added(old.folder)
        return await self._start(request, folder, detach, on_event, on_log)

    async def attach(
        self,
        name: str,
        *,
        trust_record: bool = False,
        on_event: OnEvent | None = None,
        on_log: OnLog | None = None,
    ) -> AsyncRunHandle:
        """Return the handle of a run that any process started before.

        ``name`` may be the beginning of a name, or ``-`` for the latest. A run that is not recorded
        here is looked up on the hosts of this client's inventory. If such a run has
        ``RunHandle.doubts``, this machine never starts it again unless ``trust_record`` allows it
        to start processes, and to send secrets, as the hosts say. Nothing is followed before
        ``AsyncRunHandle.wait``, which calls ``on_event`` with what is new from then on, and
        ``on_log(host, name, data)`` with the bytes that were not shown before. Raises InputError.
        """
        try:
            return self.attach_here(name, on_event, on_log, trust_record)
        except UnknownRun:
            if self._inventory is None or name == "-":
                raise
        from ..runner.remote_runs import adopt

        name = await adopt(name, self.inventory, self._ask_passphrase)
        return self.attach_here(name, on_event, on_log, trust_record)

    def attach_here(
        self,
        name: str,
        on_event: OnEvent | None = None,
        on_log: OnLog | None = None,
        trust_record: bool = False,
    ) -> AsyncRunHandle:
        """Return the handle of a run that is recorded on this machine; connect to no host.

        Raises UnknownRun if it is not recorded here, InputError.
        """
        from ..records.run_reader import RunReader

        _check_callbacks(on_event, on_log)
        path = catalog.find(name)
        if trust_record:
            RunReader(path).trust()
        return self._attached(path, on_event, on_log)

    async def rm(self, name: str, force: bool = False) -> list[HostError]:
        """Remove a run of this machine that has ended, here and on its hosts.

        Like ``AsyncRunHandle.rm``, but also for a run that ended before it was recorded. Raises
        InputError, RunKept.
        """
        path = catalog.find(name)
        try:
            handle = self._attached(path)
        except NewerRecord:
            raise  # a newer launcher can tell its hosts, too
        except (InputError, UnreadableRecord):  # it never reached a host, or does not say which
            if holder(path) is not None:
                raise
            await asyncio.to_thread(shutil.rmtree, path)
            return []
        return await handle.rm(force)

    async def follow_all(self, leaving: asyncio.Event, tell: Callable[[News], None]) -> int:
        """Follow all unfinished runs of this machine that nobody else follows, also new ones, until
        ``leaving`` is set; return how many continue without this client then.

        A run of which a host does not answer is not followed until it does.
        """
        from ..runner.follow_all import FollowAll

        return await FollowAll(self.follow, tell, leaving).until_let_go()

    # -- for handles

    def follow(self, following: Following) -> asyncio.Task[Receipt]:
        """Start following a run, or watching its follower; the task returns its receipt."""
        task = asyncio.ensure_future(self._to_the_end(following))
        self._live[task] = following
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Receipt]) -> None:
        del self._live[task]
        if not task.cancelled():
            task.exception()  # mark it as seen, since nobody may await the task

    async def _to_the_end(self, following: Following) -> Receipt:
        try:
            async with self.hosts_up(following.request.inventory):
                return await following.to_the_end()
        finally:
            _drop_if_empty(following)

    def _folder(self, request: Request, notified: Sequence[str], notes: Notes) -> RunFolder:
        from ..runner import notify

        folder = RunFolder.create(request.job.name)
        if notified:
            notify.ask(folder.path, notified)
        if notes != Notes():
            catalog.note(folder.path, notes)
        return folder

    async def _start(
        self,
        request: Request,
        folder: RunFolder,
        detach: bool,
        on_event: OnEvent | None,
        on_log: OnLog | None,
    ) -> AsyncRunHandle:
        from ..runner import follower
        from ..runner.attach import Started
        from .async_handle import AsyncRunHandle

        if detach:
            await follower.start(request, folder)
            return self._attached(folder.path, on_event, on_log)
        following = Started(request, folder, on_event or _ignore, on_log or _ignore)
        handle = AsyncRunHandle(self, following, task=self.follow(following))
        handle.is_heard = bool(on_event or on_log)
        return handle

    def _attached(
        self, path: Path, on_event: OnEvent | None = None, on_log: OnLog | None = None
    ) -> AsyncRunHandle:
        from ..records.run_reader import RunReader
        from ..runner.attach import Attached
        from .async_handle import AsyncRunHandle

        following = Attached(RunReader(path), on_event, on_log)
        following.request = replace(following.request, ask_passphrase=self._ask_passphrase)
        handle = AsyncRunHandle(self, following)
        handle.is_heard = bool(on_event or on_log)
        return handle


async def _brought_checkpoint(old: AsyncRunHandle) -> bool:
    """Bring the newest checkpoint of a run here; return whether there is one. Raises StoreError."""
    from ..runner.files.checkpoint_folder import newest
    from ..runner.files.checkpoints import bring_newest

    try:
        found = await asyncio.to_thread(bring_newest, old.folder, old._following.request.job)
    except StoreError:
        if await asyncio.to_thread(newest, old.folder) is None:
            raise
        return True
    return found is not None


async def _require_outputs(old: AsyncRunHandle, paths: Sequence[str] = ()) -> None:
    """Make sure that all outputs of a run are here, to continue from it. Raises InputError."""
    from ..runner.files.seeding import check_can_continue

    if old._following.request.job.checkpoints and await _brought_checkpoint(old):
        with suppress(LauncherError):
            await old.pull()
        return
    receipt = old.receipt
    if receipt is None or not receipt.outputs_complete:
        left = (await old.pull()).not_brought
    else:
        left = receipt.not_brought
    await asyncio.to_thread(check_can_continue, old.folder, left, paths)


def _ignore(*_: object) -> None:
    """Ignore an event or log bytes."""


def _drop_if_empty(following: Following) -> None:
    """Remove the folder of a run to which nothing has happened: `ls` would show it forever."""
    path = following.reader.path
    if not any(_has_bytes(path / name) for name in ("events.jsonl", "receipt.json")):
        shutil.rmtree(path, ignore_errors=True)


def _has_bytes(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _job_of(
    job: Job | str | os.PathLike[str] | Sequence[str | os.PathLike[str]], options: RunArguments
) -> Job:
    """Return a job, with its values taken out of ``options``. Raises InputError."""
    wanted = cast(dict[str, Any], options)
    names = RunArguments.__annotations__.keys() - RunOptions.__annotations__.keys()
    values = {name: wanted.pop(name) for name in names & wanted.keys()}
    if not isinstance(job, Job):
        from .jobs import job_of_words

        return job_of_words(job, values)
    if values:
        raise InputError(
            f"{', '.join(sorted(values))}: the job has its values already",
            "dataclasses.replace(job, ...), or give the command in place of the job",
        )
    return job


def _check_callbacks(on_event: object, on_log: object) -> None:
    """Raise InputError for a callback that cannot be called."""
    for name, one in (("on_event", on_event), ("on_log", on_log)):
        if one is not None:
            given.function(name, one)


def _check_added(files: Mapping[str, bytes]) -> None:
    """Raise InputError unless each name is a path within the code of a run, and has bytes."""
    for name, data in given.value("add_files", Mapping[str, Any], files).items():
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InputError(f"add_files: {name!r} has no bytes", "encode text: text.encode()")
        if PurePosixPath(name).is_absolute() or set(name.split("/")) & {"", ".", ".."}:
            raise InputError(f"add_files: {name!r} is no path below the workdir")
