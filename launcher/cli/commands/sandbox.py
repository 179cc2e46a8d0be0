"""``launcher sandbox``: start and stop embedded hosts on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ...api import sandbox
from .. import options
from ..grouped import CommandGroup
from ..render.tables import counted, table


@click.group("sandbox", cls=CommandGroup)
def command() -> None:
    """Manage embedded SSH hosts on this machine, to try things out: no root, no sshd.

    `up` prints an inventory for -i. A run with that inventory starts the hosts itself if they are down.
    """


@command.command()
@click.argument("count", type=click.IntRange(1, 64), default=2)
def up(count: int) -> None:
    """Start COUNT hosts: local1, local2, ..."""
    hosts = sandbox.up(count)
    click.echo(f"{counted(len(hosts), 'host')} {'is' if len(hosts) == 1 else 'are'} up")
    click.echo(f"launcher check -i {sandbox.inventory(len(hosts))}")
    click.echo(f"ssh -F {sandbox.ssh_config()} {hosts[0].name}")


@command.command()
def down() -> None:
    """Stop the hosts. Their home folders stay."""
    count = sandbox.down()
    click.echo(f"{counted(count, 'host')} stopped" if count else "no sandbox was up")


@command.command()
@options.as_json
def ls(as_json: bool) -> None:
    """List the hosts that are up."""
    hosts = sandbox.hosts()
    if as_json:
        click.echo(json.dumps([asdict(host) for host in hosts], indent=2))
    elif not hosts:
        click.echo("no sandbox is up; start one with: launcher sandbox up 3")
    else:
        rows = [(host.name, str(host.port), host.home) for host in hosts]
        click.echo(table(("host", "port", "home"), rows))
