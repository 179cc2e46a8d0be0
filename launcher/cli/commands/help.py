"""``launcher help`` and ``launcher version``: what people type before they know ``--help``."""

from __future__ import annotations

import click

from ...spec.version import __version__


@click.command("help")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def help_command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command; without one, list all commands."""
    assert ctx.parent
    asked: click.Context = ctx.parent
    for word in words:
        group = asked.command
        if not isinstance(group, click.Group):
            break
        _, found, _ = group.resolve_command(asked, [word])
        if found is None:
            break
        asked = click.Context(found, parent=asked, info_name=word)
    click.echo(asked.get_help())


@click.command("version")
def version_command() -> None:
    """Print the version."""
    click.echo(__version__)
