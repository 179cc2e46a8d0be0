"""``launcher diff``: what differs between two runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import click

from ...api import sweeps
from ...api.client import Client
from ...spec.errors import InputError
from .. import completion, options
from ..render.columns import output_width
from ..render.tables import cut, table


@click.command("diff")
@click.argument("one", metavar="RUN", shell_complete=completion.runs)
@click.argument("other", metavar="OTHER", shell_complete=completion.runs)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    metavar="REGEX",
    help="Compare what this finds last, as 'acc: ([0-9.]+)' (default: loss, accuracy and the like).",
)
@options.as_json
def command(one: str, other: str, metrics: tuple[str, ...], as_json: bool) -> None:
    """Show what differs between two runs: arguments, environment, options, code, Python and packages,
    hosts, result and the last values that they printed."""
    for pattern in metrics:
        try:
            sweeps.metric(pattern)
        except ValueError as error:
            raise InputError(f"--metric: {error}") from None
    client = Client()
    names = [client.show(word).run for word in (one, other)]
    found = client.diff(names[0], names[1], metrics)
    if as_json:
        value = {"runs": names, "differences": [asdict(each) for each in found]}
        click.echo(json.dumps(value, indent=2))
        return
    if not found:
        click.echo("no difference is recorded", err=True)
        return
    rows = [
        ("", names[0], names[1]),
        *((each.what, each.before or "-", each.after or "-") for each in found),
    ]
    click.echo(differences_text(rows, output_width()))


def differences_text(rows: Sequence[tuple[str, str, str]], width: int | None) -> str:
    """Return a table that is no wider than that: what differs gets a third at most, and a value what
    the other one leaves."""
    if width is not None:
        what, before, after = (max(len(row[column]) for row in rows) for column in range(3))
        what = min(what, width // 3)
        room = max(16, width - what - 4)
        before = min(before, max(room // 2, room - after))
        rows = [(cut(a, what), cut(b, before), cut(c, room - before)) for a, b, c in rows]
    return table(rows[0], rows[1:])
