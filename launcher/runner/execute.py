"""A request carried out, from an empty folder to the receipt, in the calling process."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress

from ..fleet.inventory_file import sandbox_of
from ..records.receipt import Receipt
from ..records.run_folder import RunFolder
from ..spec.model import Request
from .run import OnEvent, OnLog, Run


def execute(
    request: Request,
    on_event: OnEvent = lambda event: None,
    on_log: OnLog = lambda host, name, data: None,
) -> Receipt:
    """Run a request to its end and return the receipt, whatever the ending.

    Raises LauncherError when this machine cannot hold the run's folder.
    """
    with sandbox_of(request.inventory):
        run = Run(request, RunFolder.create(request.job.name), on_event, on_log)
        return asyncio.run(_listening(run))


async def _listening(run: Run) -> Receipt:
    """`launcher pull` asks for outputs by a signal, which ends a process that does not listen."""
    with suppress(RuntimeError, ValueError):  # not the main thread
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, run.pull_now)
    return await run.execute()
