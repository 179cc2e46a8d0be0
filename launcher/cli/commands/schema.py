"""``launcher schema``: print JSON Schemas for editors."""

from __future__ import annotations

import json

import click


@click.command("schema")
@click.argument("kind", type=click.Choice(["inventory", "job"]))
def command(kind: str) -> None:
    """Print the JSON Schema of an inventory or a job file."""
    from ...api import hosts, jobs

    schema = hosts.schema() if kind == "inventory" else jobs.schema()
    click.echo(json.dumps(schema, indent=2))
