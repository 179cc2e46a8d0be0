"""``launcher sandbox``: embedded hosts on this machine."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from ...api import sandbox
from .. import options
from ..render.tables import counted, table


@click.group("sandbox")
def command() -> None:
    """Embedded SSH hosts on this machine: safe to try things on, no root, no sshd.

    `up` names an inventory for -i; a run with it also starts them for itself when they are not up.
    """


@command.command()
@click.argument("count", type=click.IntRange(1, 64), default=2)
def up(count: int) -> None:
    """Starts COUNT hosts: local1, local2, ..."""
    hosts = sandbox.up(count)
    click.echo(f"{counted(len(hosts), 'host')} {'is' if len(hosts) == 1 else 'are'} up")
    click.echo(f"launcher check -i {sandbox.inventory(len(hosts))}")
    click.echo(f"ssh -F {sandbox.ssh_config()} {hosts[0].name}")


@command.command()
def down() -> None:
    """Ends them. Their home folders stay."""
    count = sandbox.down()
    click.echo(f"{counted(count, 'host')} ended" if count else "no sandbox was up")


@command.command()
@options.as_json
def ls(as_json: bool) -> None:
    """Lists the hosts that are up."""
    hosts = sandbox.hosts()
    if as_json:
        click.echo(json.dumps([asdict(host) for host in hosts], indent=2))
    elif not hosts:
        click.echo("no sandbox is up; start one with: launcher sandbox up 3")
    else:
        rows = [(host.name, str(host.port), host.home) for host in hosts]
        click.echo(table(("host", "port", "home"), rows))
