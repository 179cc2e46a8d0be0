"""``launcher tag``: tags and a note of a run, to find it by."""

from __future__ import annotations

import json

import click

from ...api.client import Client
from .. import completion, options


@click.command("tag")
@click.argument("word", metavar="RUN", shell_complete=completion.runs)
@click.argument("tags", metavar="[TAG]...", nargs=-1)
@click.option("--remove", multiple=True, metavar="TAG", help="Remove a tag (repeatable).")
@click.option("--note", metavar="TEXT", help="Set the note of the run; an empty one removes it.")
@options.as_json
def command(
    word: str, tags: tuple[str, ...], remove: tuple[str, ...], note: str | None, as_json: bool
) -> None:
    """Tag a run, or write a note about it. `launcher ls --tag TAG` and words find it again."""
    client = Client()
    name = client.show(word).run
    run = client.annotate(name, tags, remove, note)
    if as_json:
        click.echo(json.dumps({"run": name, "tags": run.tags, "note": run.note}, indent=2))
        return
    click.echo(
        f"{name}: {', '.join(run.tags) or 'no tags'}" + (f"; {run.note}" if run.note else "")
    )
