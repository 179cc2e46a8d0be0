"""Carry out a request in the calling thread, from an empty folder to the receipt."""

from __future__ import annotations

import asyncio

from ..fleet.sandbox import sandbox_of
from ..records.receipt import Receipt
from ..records.run_folder import RunFolder
from ..spec.model import Request
from .attach import follow
from .listeners import OnEvent, OnLog, ignore_event, ignore_log
from .run import Run


def execute(
    request: Request,
    on_event: OnEvent = ignore_event,
    on_log: OnLog = ignore_log,
) -> Receipt:
    """Run a request to its end and return the receipt, however it ends.

    Raises LauncherError when this machine cannot hold the run's folder.
    """

    async def to_the_end() -> Receipt:
        run = Run(request, RunFolder.create(request.job.name), on_event, on_log)
        return await follow(run, run.execute())

    with sandbox_of(request.inventory):
        return asyncio.run(to_the_end())
