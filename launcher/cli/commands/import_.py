"""``launcher import``: convert task files of other systems into job files."""

from __future__ import annotations

import click

from ...api.formats import TASKS
from .. import completion, options
from ..inventory_lookup import note
from .inventory import write_text


@click.command("import")
@click.argument("form", metavar="FORMAT", shell_complete=completion.words(*TASKS))
@click.argument("file", metavar="FILE", shell_complete=completion.files)
@click.option("-o", "--output", metavar="FILE", help="Write to this file instead of stdout.")
@options.force
def command(form: str, file: str, output: str | None, force: bool) -> None:
    """Convert a task FILE of another system (skypilot, dstack, polyaxon, osmo, slurm) into a job file.

    What cannot be converted is listed in comments and on stderr.
    """
    from ...api import formats

    content, source = formats.read_file(file, "task file")
    text, notes = formats.import_task(content, source, form)
    for one in notes:
        note(f"{source}: {one}")
    write_text(text, output, force, "a job")
