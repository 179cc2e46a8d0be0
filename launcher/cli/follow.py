"""A run on a screen: signals become wishes, and a receipt the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ..api.client import AsyncClient
    from ..api.handles import AsyncRunHandle
    from ..records.receipt import Receipt
    from .render.run_view import Screen

#: Starts a run with a client.
Start = Callable[["AsyncClient"], Awaitable["AsyncRunHandle"]]


async def shown(screen: Screen, run: AsyncRunHandle) -> Receipt:
    """Shows a run to its end. Ctrl-C asks for the end, a second one kills; SIGHUP leaves the run, and
    SIGUSR1 (of an older launcher's `pull`) brings outputs back at once."""
    screen.begin(run)
    _on_signals(screen, run)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, run.request_pull)
    async with screen:
        receipt = await run.wait()
    screen.receipt(receipt)
    return receipt


def _on_signals(screen: Screen, run: AsyncRunHandle) -> None:
    def asked() -> None:
        run.request_stop()
        screen.stopping()

    def hung_up() -> None:
        with contextlib.suppress(OSError):  # the terminal is gone, or only said so
            screen.flush()
        run.remember()
        os._exit(128 + signal.SIGHUP)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked)
    loop.add_signal_handler(signal.SIGHUP, hung_up)


async def begin(
    client: AsyncClient, start: Start, screen: Screen, detach: bool, as_json: bool
) -> int:
    """Starts a run and shows it, to its end or with ``detach`` to its start; the exit code.

    ``as_json``: writes its receipt on stdout, or its name where it continues without us."""
    async with client:
        run = await start(client)
        receipt = await (_until_started(screen, run) if detach else shown(screen, run))
    if as_json:
        click.echo(json.dumps(receipt.to_json() if receipt else {"run": run.name}, indent=2))
    return receipt.exit_code if receipt else 0


async def _until_started(screen: Screen, run: AsyncRunHandle) -> Receipt | None:
    screen.begin(run)
    _on_signals(screen, run)
    async with screen:
        receipt = await run.wait_until_started(screen.on_event)
    if receipt:
        screen.receipt(receipt)
    else:
        click.echo(f"it goes on by itself: launcher attach {run.name}", err=True)
    return receipt
