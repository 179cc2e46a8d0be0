"""``launcher pull``: bring outputs and logs of a run back now."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...api.handles import Pulled, RecordedRun
from ...records import events as ev
from ...spec.errors import InputError
from ...spec.sizes import size
from .. import options, trust
from ..again import Again, continued
from ..render.columns import width_of
from ..render.log_lines import harmless
from ..render.not_brought import not_brought_lines
from ..render.receipt import stored_lines
from ..render.run_view import Screen
from ..render.tables import counted
from ..run_argument import attached, run_argument

if TYPE_CHECKING:
    from ...api.handles import Restored

#: What continues where Ctrl-C has interrupted a pull.
NEXT = "the next pull"


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
@click.option(
    "--from",
    "source",
    type=click.Choice(["hosts", "store", "s3"]),
    default="hosts",
    help="Where they come from: the hosts (default), or the store (or s3) of --output-to, to DEST.",
)
@click.option(
    trust.FLAG,
    is_flag=True,
    help="Use the store that the hosts of a run of another machine name, with your credentials.",
)
@options.max_rate
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    word: str,
    dest: Path | None,
    also: tuple[str, ...],
    only: tuple[str, ...],
    source: str,
    trust_record: bool,
    max_rate: str | None,
    as_json: bool,
) -> None:
    """Bring outputs and logs of a run back as they are on its hosts now. The run continues.

    With DEST they go straight there, and not to ~/.launcher. The next pull continues what was
    interrupted. If the run has ended, what its store lacks
    is stored as well; if nobody follows it, `launcher attach` does that.
    """
    rate = options.rate_of(max_rate)
    if source != "hosts":
        if rate:
            raise InputError("--max-rate is for what comes from hosts", "leave out one of the two")
        _restore(ctx, word, dest, trust_record, as_json)
    again = Again(word)
    with continued(NEXT, again):
        run, pulled = asyncio.run(
            _pull(again, dest, _patterns(also), _patterns(only), rate, trust_record)
        )
    name = run.name
    if as_json:
        value = {**asdict(pulled), "run": name, "outputs": str(pulled.outputs)}
        click.echo(json.dumps(value, indent=2))
    else:
        count = counted(pulled.files, "file")
        click.echo(f"{count}, {size(pulled.bytes)} in {pulled.outputs}", err=True)
        for line in not_brought_lines(name, pulled.not_brought, width_of(sys.stderr)):
            click.secho(line, fg="yellow", err=True)
        for line in stored_lines(name, pulled.stored, "pull" if run.receipt else "attach"):
            click.echo(line, err=True)
    for host, why in pulled.failed.items():
        click.secho(f"{host}: not complete: {why}", fg="yellow", err=True)
    ctx.exit(1 if pulled.failed or (pulled.stored and not pulled.stored.whole) else 0)


def _restore(
    ctx: click.Context, word: str, dest: Path | None, trusted: bool, as_json: bool
) -> None:
    if dest is None:
        raise InputError(
            "--from store needs a folder to bring them to", "launcher pull RUN DEST --from store"
        )
    again = Again(word)
    with continued(NEXT, again):
        restored = asyncio.run(_pull_stored(again, dest, trusted))
    if as_json:
        click.echo(json.dumps({**asdict(restored), "outputs": str(dest)}, indent=2))
    else:
        count = counted(restored.files, "file")
        click.echo(f"{count}, {size(restored.bytes)} in {dest}", err=True)
        for why in restored.failed[:20]:
            text = harmless(why.encode(errors="surrogateescape")).decode(errors="replace")
            click.secho(text, fg="yellow", err=True)
        if not restored.whole:
            click.secho("the store does not have all outputs of this run", fg="yellow", err=True)
    ctx.exit(0 if restored.whole else 1)


async def _pull_stored(again: Again, dest: Path, trusted: bool) -> Restored:
    screen = Screen()
    async with attached(again.word) as run, screen:
        again.name = run.name
        if trusted:
            run.trust()
        screen.on_event(ev.StageStarted(time.time(), "collect"))
        return await run.pull_stored(dest, screen.on_event)


def _patterns(given: tuple[str, ...]) -> list[str]:
    return [one for text in given for one in text.split(",") if one]


async def _pull(
    again: Again, dest: Path | None, also: list[str], only: list[str], rate: int, trusted: bool
) -> tuple[RecordedRun, Pulled]:
    screen = Screen()
    async with attached(again.word) as run, screen:
        again.name = run.name
        if trusted:
            run.trust()
        screen.on_event(ev.StageStarted(time.time(), "collect"))

        def show(event: ev.Event) -> None:
            if isinstance(event, ev.Progressed | ev.StageStarted):
                screen.on_event(event)

        return run, await run.pull(dest, also=also, only=only, max_rate=rate, on_event=show)
