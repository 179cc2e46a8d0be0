"""Run a job to its receipt in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from ..spec.model import Inventory, Job
from .arguments import RunOptions
from .client import Client

if TYPE_CHECKING:
    from ..records.receipt import Receipt
    from ..runner.listeners import OnEvent, OnLog


def run_job(
    job: Job,
    inventory: Inventory,
    *,
    on_event: OnEvent | None = None,
    on_log: OnLog | None = None,
    **options: Unpack[RunOptions],
) -> Receipt:
    """Run a job and return its receipt, however the run ends.

    ``on_event`` gets every event, and ``on_log(host, name, data)`` the new bytes of a log, both in
    another thread. Options are those of ``RunOptions``. Ctrl-C stops the run.
    Raises InputError for what is wrong before anything starts, and LauncherError if this machine
    cannot create the run's folder.
    """
    with Client(inventory) as client:
        return client.run(job, on_event=on_event, on_log=on_log, **options).wait()
