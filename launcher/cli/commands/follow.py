"""``launcher follow``: keep all runs of this machine followed, by hand or as a service."""

from __future__ import annotations

import asyncio
import getpass
import signal

import click

from ...api import user_service
from ...api.client import AsyncClient
from ...api.following import News
from ...spec.errors import InputError
from ..follow import on_hangup
from ..render.refreshed import news_line
from ..render.tables import counted


@click.command("follow")
@click.option(
    "--all", "everything", is_flag=True, help="Follow all unfinished runs, also new ones."
)
@click.option("--install", is_flag=True, help="Install it as a service that starts at your login.")
@click.option("--uninstall", is_flag=True, help="Stop that service, and remove it.")
@click.pass_context
def command(ctx: click.Context, everything: bool, install: bool, uninstall: bool) -> None:
    """Keep the unfinished runs of this machine followed, so that outputs come back and failed runs
    restart without you.

    --all does so in the foreground. Runs that another process follows are left to it, until it is gone.
    A run of which a host does not answer is not followed until it does, and so never given up. Ctrl-C,
    SIGTERM and SIGHUP let go: the runs continue on their hosts.
    """
    if everything + install + uninstall != 1:
        raise InputError(
            "say what to do: --all, --install or --uninstall",
            "launcher follow --all follows all runs",
        )
    if install:
        _install()
    elif uninstall:
        file = user_service.uninstall()
        click.echo(f"stopped, and deleted {file}" if file else "it is not installed", err=True)
    else:
        ctx.exit(asyncio.run(_follow_all()))


def _install() -> None:
    service = user_service.install()
    click.echo(f"running, and started at every login: {service.file}", err=True)
    if service.lingers is False:
        who = getpass.getuser()
        click.echo(
            f"it stops when you log out; to keep it running: loginctl enable-linger {who}", err=True
        )


async def _follow_all() -> int:
    leaving = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, leaving.set)
    on_hangup(leaving.set)

    def tell(news: News) -> None:
        click.echo(news_line(news), err=True)

    click.echo("following the unfinished runs of this machine; Ctrl-C lets go of them", err=True)
    async with AsyncClient() as client:
        count = await client.follow_all(leaving, tell)
    runs, verb = counted(count, "run"), "keeps" if count == 1 else "keep"
    click.echo(f"let go of {runs}, which {verb} running" if count else "let go", err=True)
    return 0
