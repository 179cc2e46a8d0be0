"""``launcher pull``: outputs and logs of a run, now."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import click

from ...api import runs
from ..render.tables import counted, size
from ..run_argument import run_argument, taken_up


@click.command("pull")
@run_argument
@click.argument("dest", required=False, type=click.Path(path_type=Path))
@click.pass_context
def command(ctx: click.Context, word: str, dest: Path | None) -> None:
    """Brings outputs and logs of a run back as they are on its hosts now; into DEST as well, when it
    is given. The run goes on."""
    run = taken_up(word)
    with runs.hosts_of(run.request):
        failed = asyncio.run(run.bring())
    outputs = run.path / "outputs"
    files = [path for path in outputs.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    place = outputs
    if dest:
        for name in ("outputs", "logs"):
            if (run.path / name).exists():
                shutil.copytree(run.path / name, dest / name, dirs_exist_ok=True)
        place = dest / "outputs"
    click.echo(f"{counted(len(files), 'file')}, {size(total)} in {place}", err=True)
    for host, why in failed.items():
        click.secho(f"{host}: not complete: {why}", fg="yellow", err=True)
    ctx.exit(1 if failed else 0)
