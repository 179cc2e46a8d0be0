"""A job to its receipt, in one call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..spec.model import Inventory, Job
from .client import Client

if TYPE_CHECKING:
    from ..records.receipt import Receipt
    from ..runner.listeners import OnEvent, OnLog


def run_job(
    job: Job,
    inventory: Inventory,
    *,
    pull_every: float = 30.0,
    lost_after: float = 300.0,
    orphan_timeout: float | None = None,
    stall_timeout: float | None = None,
    stop_stalled: bool = False,
    on_event: OnEvent | None = None,
    on_log: OnLog | None = None,
) -> Receipt:
    """Run a job and return its receipt, whatever the ending.

    ``on_log(host, name, data)`` gets the new bytes of a log, ``on_event`` every event, both in another
    thread; the numbers are seconds, as :class:`launcher.api.client.RunOptions` explains them. Ctrl-C
    stops the run. Raises InputError for what can be seen before anything starts, LauncherError when
    this machine cannot hold the run's folder.
    """
    with Client(inventory) as client:
        run = client.run(
            job,
            on_event=on_event,
            on_log=on_log,
            pull_every=pull_every,
            lost_after=lost_after,
            orphan_timeout=orphan_timeout,
            stall_timeout=stall_timeout,
            stop_stalled=stop_stalled,
        )
        return run.wait()
