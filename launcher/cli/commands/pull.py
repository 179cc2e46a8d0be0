"""``launcher pull``: bring outputs and logs of a run back now."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from ...api.handles import Pulled
from ...records import events as ev
from .. import options
from ..render.hints import terminal_width
from ..render.not_brought import not_brought_lines
from ..render.run_view import Screen
from ..render.tables import counted, size
from ..run_argument import attached, run_argument


@click.command("pull")
@run_argument
@click.argument("dest", required=False, type=click.Path(path_type=Path))
@click.option(
    "--also",
    multiple=True,
    metavar="PATHS",
    help="Also bring these paths of the workdir, which are not outputs: a,b or '*.csv'.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERNS",
    help="Bring only these files to DEST, such as '*.json'; also those kept on the hosts.",
)
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    word: str,
    dest: Path | None,
    also: tuple[str, ...],
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bring outputs and logs of a run back as they are on its hosts now. The run continues.

    With DEST they go straight there, and not to ~/.launcher.
    """
    name, pulled = asyncio.run(_pull(word, dest, _patterns(also), _patterns(only)))
    if as_json:
        value = {**asdict(pulled), "run": name, "outputs": str(pulled.outputs)}
        click.echo(json.dumps(value, indent=2))
    else:
        count = counted(pulled.files, "file")
        click.echo(f"{count}, {size(pulled.bytes)} in {pulled.outputs}", err=True)
        for line in not_brought_lines(name, pulled.not_brought, terminal_width()):
            click.secho(line, fg="yellow", err=True)
    for host, why in pulled.failed.items():
        click.secho(f"{host}: not complete: {why}", fg="yellow", err=True)
    ctx.exit(1 if pulled.failed else 0)


def _patterns(given: tuple[str, ...]) -> list[str]:
    return [one for text in given for one in text.split(",") if one]


async def _pull(
    word: str, dest: Path | None, also: list[str], only: list[str]
) -> tuple[str, Pulled]:
    screen = Screen()
    async with attached(word) as run, screen:
        screen.on_event(ev.StageStarted(time.time(), "collect"))

        def show(event: ev.Event) -> None:
            if isinstance(event, ev.Progressed):
                screen.on_event(event)

        return run.name, await run.pull(dest, also=also, only=only, on_event=show)
