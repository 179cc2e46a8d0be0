"""``launcher console``: the runs of this machine in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ...spec.errors import InputError
from ...spec.version import installs
from .. import options
from ..follow import hangups
from ..inventory_lookup import find_inventory, loaded
from ..run_argument import new_client

if TYPE_CHECKING:
    from ...spec.model import Inventory


@click.command("console")
@options.inventory
@options.port(8770)
@options.no_browser
@click.option(
    "--read-only",
    is_flag=True,
    help="Pages only show: they start, stop, delete and reserve nothing.",
)
def command(inventory: str | None, port: int, no_browser: bool, read_only: bool) -> None:
    """Show the runs of this machine and the hosts in a browser: status, live logs, scalars, outputs,
    GPUs, who waits. Pages start, stop, repeat and compare runs, reserve GPUs, and change quotas.
    """
    try:
        from ...web.server import serve
    except ModuleNotFoundError as error:
        raise InputError(f"the console needs {error.name}", installs("console")) from None
    client = new_client(_hosts(inventory))
    serve(
        port,
        not no_browser,
        _tell,
        read_only=read_only,
        client=client,
        tell_refused=_tell_refused,
        hangups=hangups(),
    )


def _hosts(given: str | None) -> Inventory | None:
    """Return the hosts to show; without an inventory the runs of this machine are shown all the same.

    Raises InputError for one that is named.
    """
    try:
        return loaded(given) if find_inventory(given) else None
    except InputError as error:
        if given:
            raise
        click.echo(f"warning: no hosts to show: {error}", err=True)
        return None


def _tell(address: str) -> None:
    click.echo(address)
    click.echo("The address opens the console once, for you alone. Ctrl-C ends it.", err=True)


def _tell_refused(user: str) -> None:
    click.echo(f"refused a connection of {user}: the console is for its own user", err=True)
