"""The RUN argument of commands: a name, the beginning of one, or ``-`` for the latest.

A run that this machine does not know is looked up on the hosts of the inventory.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import click

from ..api.client import AsyncClient
from ..records import events as ev
from ..spec import nodeset
from ..spec.errors import InputError, UnknownRun
from . import completion
from .inventory_lookup import INVENTORY, find_inventory, loaded
from .render.moving_line import question

if TYPE_CHECKING:
    from ..api.client import OnEvent, OnLog
    from ..api.handles import AsyncRunHandle
    from ..api.host_requests import AskPassphrase
    from ..spec.model import Inventory
    from .options import F


def _remember(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value:
        os.environ[INVENTORY] = value


def run_argument(command: F) -> F:
    """Add RUN to a command, as ``word``."""
    argument = click.argument("word", metavar="RUN", shell_complete=completion.runs)
    return argument(inventory_option(command))


def inventory_option(command: F) -> F:
    """Add ``-i``, the inventory that is asked for runs of other machines."""
    inventory = click.option(
        "-i",
        "--inventory",
        expose_value=False,
        callback=_remember,
        shell_complete=completion.files,
        help="Inventory of the hosts to ask for a run started elsewhere.",
    )
    return inventory(command)


def new_client(inventory: Inventory | str | None = None) -> AsyncClient:
    """Return a client that asks for passphrases at the terminal, if there is one."""
    return AsyncClient(inventory, ask_passphrase=passphrases(), command_line=tuple(sys.argv))


def passphrases() -> AskPassphrase | None:
    """Return what asks for passphrases at the terminal; None if there is no terminal."""
    return _ask_passphrase if sys.stdin.isatty() else None


def check_ranks(run: AsyncRunHandle, ranks: frozenset[int] | None) -> None:
    """Raise InputError for ``--ranks`` of which the run has none, now or in an earlier attempt."""
    size = run.layout.world_size
    if not ranks or not size or not ranks.isdisjoint(range(size)):
        return
    logs = run.folder / "logs"
    if not any(any(logs.glob(f"attempt-*/rank-{rank}.*")) for rank in ranks):
        known = "rank 0 alone" if size == 1 else f"ranks 0-{size - 1}"
        raise InputError(f"--ranks {nodeset.fold_ranks(sorted(ranks))}: {run.name} has {known}")


@asynccontextmanager
async def attached(
    word: str, on_event: OnEvent | None = None, on_log: OnLog | None = None
) -> AsyncIterator[AsyncRunHandle]:
    """Yield the named run, recorded here or fetched from its hosts. Raises InputError."""
    client = new_client()
    try:
        run = client.attach_here(word, on_event, on_log)
    except UnknownRun as unknown:
        place = find_inventory(None)
        if place is None or word == "-":
            raise
        client = new_client(loaded(place))
        try:
            run = await client.attach(word, on_event=on_event, on_log=on_log)
        except InputError as error:
            if unknown.hint.startswith("did you mean"):
                error.hint = unknown.hint
            raise
        click.echo(
            f"{run.name} was started on another machine; fetched its record from its hosts",
            err=True,
        )
    if damaged := ev.damage(run.events()):
        click.echo(f"warning: {damaged}; the rest of it counts", err=True)
    async with client:
        yield run


#: Key files of which the user gave no passphrase: a command that asks hosts again does not repeat it.
_declined = set[str]()


async def _ask_passphrase(file: str) -> str:
    if file in _declined:
        return ""
    with question():
        answer = await asyncio.to_thread(
            click.prompt,
            f"passphrase for {file}",
            hide_input=True,
            err=True,
            default="",
            show_default=False,
        )
    if not answer:
        _declined.add(file)
    return str(answer)
