"""``launcher console``: the runs of this machine in a browser."""

from __future__ import annotations

import click

from ...spec.errors import InputError


@click.command("console")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8770,
    show_default=True,
    help="Port on 127.0.0.1; 0 takes a free one.",
)
@click.option("--no-browser", is_flag=True, help="Only print the address.")
@click.option("--read-only", is_flag=True, help="Pages can look, and neither stop nor start runs.")
def command(port: int, no_browser: bool, read_only: bool) -> None:
    """Show the runs of this machine in a browser: status, live logs, scalars, outputs; stop them, run
    them again, compare them.
    """
    try:
        from ...web.server import serve
    except ModuleNotFoundError as error:
        raise InputError(f"the console needs {error.name}", "pip install '.[console]'") from None
    serve(port, not no_browser, _tell, read_only=read_only)


def _tell(address: str) -> None:
    click.echo(address)
    click.echo("The address opens the console once, for you alone. Ctrl-C ends it.", err=True)
