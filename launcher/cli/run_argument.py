"""The RUN of a command line: a name, the beginning of one, or ``-`` for the latest.

One that this machine does not know is looked for on the hosts of the inventory.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ..api import runs
from ..spec.errors import UnknownRun
from . import completion
from .inventory_lookup import INVENTORY, find_inventory, loaded

if TYPE_CHECKING:
    from ..runner.attach import Attached


def _remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        os.environ[INVENTORY] = value


def run_argument(command: Any) -> Any:
    """Adds the argument to a command, as ``word``; shells complete it."""
    inventory = click.option(
        "-i",
        "--inventory",
        expose_value=False,
        callback=_remember,
        shell_complete=completion.files,
        help="Inventory of the hosts to ask for a run of another machine.",
    )
    argument = click.argument("word", metavar="RUN", shell_complete=completion.runs)
    return argument(inventory(command))


def taken_up(word: str, *callbacks: Any) -> Attached:
    """The run that the user means, from here or else from its hosts. Raises InputError."""
    try:
        run = runs.attached(word, *callbacks)
    except UnknownRun:
        place = find_inventory(None)
        if place is None or word == "-":
            raise
        from ..runner.remote_runs import adopt

        name = asyncio.run(adopt(word, loaded(place)))
        click.echo(f"{name} was begun elsewhere: taken up from its hosts", err=True)
        run = runs.attached(name, *callbacks)
    if sys.stdin.isatty():
        run.request = replace(run.request, ask_passphrase=ask_passphrase)
    return run


async def ask_passphrase(file: str) -> str:
    """Asks at the terminal for the passphrase of a key file."""
    answer = await asyncio.to_thread(
        click.prompt,
        f"passphrase for {file}",
        hide_input=True,
        err=True,
        default="",
        show_default=False,
    )
    return str(answer)
