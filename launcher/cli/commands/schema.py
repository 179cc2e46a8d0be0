"""``launcher schema``: print JSON Schemas for editors."""

from __future__ import annotations

import json

import click


@click.command("schema")
@click.argument("kind", type=click.Choice(["inventory", "job", "settings"]))
def command(kind: str) -> None:
    """Print the JSON Schema of an inventory, a job file or settings."""
    from ...api import hosts, jobs, settings

    makers = {"inventory": hosts.schema, "job": jobs.schema, "settings": settings.json_schema}
    click.echo(json.dumps(makers[kind](), indent=2))
