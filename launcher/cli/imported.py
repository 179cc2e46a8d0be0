"""``launcher import``: task files of other systems as job files of ours."""

from __future__ import annotations

import click

from .. import api
from . import options
from .inventory import write_text
from .places import note


@click.command("import")
@click.argument("form", metavar="FORMAT")
@click.argument("file", metavar="FILE")
@click.option("-o", "--output", metavar="FILE", help="Write there instead of stdout.")
@options.force
def command(form: str, file: str, output: str | None, force: bool) -> None:
    """Turns a task FILE of another system (skypilot, dstack, polyaxon, osmo) into a job file.

    What cannot be carried over stands in comments and on stderr.
    """
    from .. import import_jobs

    source = "stdin" if file == "-" else file
    content = api.read_text("/dev/stdin" if file == "-" else file, "task file")
    text, notes = import_jobs.read(content, source, form)
    for one in notes:
        note(f"{source}: {one}")
    write_text(text, output, force, "a job")
