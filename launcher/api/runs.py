"""Runs as programs start and find them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ..fleet.inventory_file import sandbox_of
from ..records import catalog
from ..records import events as ev
from ..records.receipt import Receipt
from ..records.run_folder import RunFolder
from ..runner.requests import make_request
from ..spec.model import Inventory, Job, Request

if TYPE_CHECKING:
    from ..runner.attach import Attached
    from ..runner.run import Run

OnEvent = Callable[[ev.Event], None]
OnLog = Callable[[str, str, bytes], None]


def run_job(
    job: Job,
    inventory: Inventory,
    *,
    pull_every: float = 30.0,
    lost_after: float = 300.0,
    orphan_timeout: float | None = None,
    stall_timeout: float | None = None,
    stop_stalled: bool = False,
    on_event: OnEvent = lambda event: None,
    on_log: OnLog = lambda host, name, data: None,
) -> Receipt:
    """Runs a job and returns its receipt, whatever the ending.

    ``on_log(host, name, data)`` gets the new bytes of a log, ``on_event`` every event; the numbers
    are seconds, as :class:`launcher.spec.model.Request` explains them. Raises
    InputError for what can be seen before anything starts, LauncherError when this machine cannot
    hold the run's folder.
    """
    request = make_request(
        job,
        inventory,
        pull_every=pull_every,
        lost_after=lost_after,
        orphan_timeout=orphan_timeout,
        stall_timeout=stall_timeout,
        stop_stalled=stop_stalled,
    )
    from ..runner.execute import execute  # asyncssh takes a third of a second to import

    return execute(request, on_event, on_log)


def new_folder(job: Job) -> RunFolder:
    """A folder and a name for a run. Raises RecordError."""
    return RunFolder.create(job.name)


def new_run(request: Request, folder: RunFolder, on_event: OnEvent, on_log: OnLog) -> Run:
    """A run in a folder of its own."""
    from ..runner.run import Run  # asyncssh takes a third of a second to import: not for a dry run

    return Run(request, folder, on_event, on_log)


def attached(
    word: str,
    on_event: OnEvent = lambda event: None,
    on_log: OnLog = lambda host, name, data: None,
) -> Attached:
    """A run that another process began, by name, beginning of a name, or ``-`` for the latest.

    Raises InputError.
    """
    from ..runner.attach import Attached

    return Attached(catalog.find(word), on_event, on_log)


def hosts_of(request: Request) -> AbstractContextManager[None]:
    """The embedded hosts, where the inventory wants them and they are not up."""
    return sandbox_of(request.inventory)
