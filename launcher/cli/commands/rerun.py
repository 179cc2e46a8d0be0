"""``launcher rerun``: a run once more."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import click

from ...records.run_folder import read_json
from ...spec.errors import InputError
from .. import options
from ..follow import begin
from ..run_argument import run_argument, taken_up


@click.command("rerun")
@run_argument
@options.ranks
@options.raw
@options.detach
@options.receipt_as_json
@click.pass_context
def command(
    ctx: click.Context,
    word: str,
    ranks: frozenset[int] | None,
    raw: bool,
    detach: bool,
    as_json: bool,
) -> None:
    """Runs a run again: the same snapshot of the code, the same job, the same hosts. Secrets come
    from the environment here."""
    from ..render.run_view import Screen

    old = taken_up(word)
    names = read_json(old.path / "run.json")["job"].get("secrets", ())
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise InputError(f"secret {missing[0]} is not set here", f"export {missing[0]}=... first")
    nodes = tuple(node.host for node in old.layout.nodes)
    request = replace(
        old.request,
        hosts=nodes or old.request.hosts,
        code_of=old.name,
        command_line=tuple(sys.argv),
    )
    screen = Screen(ranks=ranks, raw=raw, logs_to_stderr=as_json)
    ctx.exit(begin(request, screen, detach, as_json))
