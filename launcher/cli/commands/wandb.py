"""``launcher wandb sync``: what runs recorded offline goes to Weights & Biases from here."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import click

from ...api.client import Client, home
from ...records import live_files
from ...spec.errors import InputError
from .. import completion
from ..grouped import CommandGroup
from ..render.tables import counted


@click.group("wandb", cls=CommandGroup)
def command() -> None:
    """Hand what runs recorded offline to Weights & Biases. The key stays on this machine."""


@command.command("sync")
@click.argument("words", metavar="RUN...", nargs=-1, required=True, shell_complete=completion.runs)
@click.option("-p", "--project", metavar="NAME", help="The project that gets them.")
@click.option("-e", "--entity", metavar="NAME", help="The user or team whose project it is.")
@click.pass_context
def sync_command(
    ctx: click.Context, words: tuple[str, ...], project: str | None, entity: str | None
) -> None:
    """Call `wandb sync`, here, for what runs with WANDB_MODE=offline have recorded so far.

    RUN may be a pattern such as 'sweep-*'. Of a run that goes on, call it again later: Weights & Biases
    knows what it has. The exit code is that of `wandb sync`.
    """
    program = shutil.which("wandb")
    if program is None:
        raise InputError("launcher wandb needs the program wandb here", "pip install wandb")
    options = [*(("-p", project) if project else ()), *(("-e", entity) if entity else ())]
    with tempfile.TemporaryDirectory(prefix="wandb-", dir=home()) as place:
        found = []
        for one in Client().select(words):
            here = Path(place, one.run)
            live_files.lay_together(home() / "runs" / one.run, here)
            found += sorted(file.parent for file in here.rglob("offline-run-*/run-*.wandb"))
        if not found:
            raise InputError(
                f"nothing that was recorded offline has come back of {' '.join(words)}",
                "launcher run -e WANDB_MODE=offline -e 'WANDB_DIR={{outputs}}' ...",
            )
        click.echo(f"wandb sync: {counted(len(found), 'offline run')}", err=True)
        ctx.exit(subprocess.call([program, "sync", *options, *map(str, found)], cwd=place))
