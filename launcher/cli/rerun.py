"""``launcher rerun``: a run once more."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

import click

from ..errors import InputError
from ..store import read_json
from . import options
from .live import begin
from .named import run_argument, taken_up


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
    from .screen import Screen

    old = taken_up(word)
    names = read_json(old.path / "run.json")["job"]["secrets"]
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
