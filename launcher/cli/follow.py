"""Follow a run on a screen: signals become requests, and the receipt the exit code."""

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
    """Show a run until it ends, and return its receipt.

    Ctrl-C stops the run, a second one kills it. SIGHUP leaves it running. SIGUSR1, which `pull` of
    an older launcher sends, brings outputs back now.
    """
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
        with contextlib.suppress(OSError):  # the terminal may be gone
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
    """Start a run, show it until it ends, and return the exit code.

    With ``detach``, return once all processes run. With ``as_json``, print the receipt on stdout, or
    the run's name if it continues detached.
    """
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
        click.echo(f"detached; {run.name} keeps running", err=True)
        click.echo(f"  look: launcher logs -f {run.name}", err=True)
        click.echo(f"  stop: launcher stop {run.name}", err=True)
    return receipt
