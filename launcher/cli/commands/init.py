"""``launcher init``: from nothing to an inventory, with questions where there is a terminal."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ...api import discovery
from ...api.discovery import Candidate
from ...spec import nodeset
from ...spec.errors import HostError, HostKeyMismatch, InputError, NoBanner, Refused, Unreachable
from ...spec.model import Facts
from .. import options
from ..inventory_lookup import USUAL_PLACES
from ..render.tables import counted, table
from ..run_argument import ask_passphrase

#: What `launcher bootstrap` cannot help with.
_NO_BOOTSTRAP = (Unreachable, Refused, NoBanner, HostKeyMismatch)


@click.command("init")
@click.argument("words", nargs=-1, metavar="[[USER@]HOST[:PORT]]...")
@click.option("-f", "--hostfile", metavar="FILE", help="Lines of `host` or `host slots=8`.")
@click.option("-o", "--output", default=USUAL_PLACES[0], show_default=True, help="Where to.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; write over what is there.")
@click.option("--no-probe", is_flag=True, help="Do not go to the hosts.")
@options.as_json
@click.pass_context
def command(
    ctx: click.Context,
    /,
    words: tuple[str, ...],
    hostfile: str | None,
    output: str,
    yes: bool,
    no_probe: bool,
    as_json: bool,
) -> None:
    """Makes a first inventory: of the hosts that are named, or of some that ~/.ssh names.

    Goes to each of them, says what is there, and writes a file with comments. Exit code 1 when a
    host is not ready; the file is written all the same.
    """
    asks = sys.stdin.isatty() and not yes
    chosen = discovery.from_words(" ".join(words))
    if hostfile:
        chosen += discovery.from_hostfile(_read(Path(hostfile)), hostfile)
    chosen = chosen or _choose(asks)
    _may_write(Path(output), yes, asks)
    told = {} if no_probe else _probe(chosen, asks)
    text = discovery.inventory_text(chosen, _words(told), time.strftime("%d %B %Y"))
    _write(Path(output), text)
    ready = all(isinstance(answer, Facts) and answer.rsync for answer in told.values())
    if as_json:
        rows = [_described(one, told.get(one.name)) for one in chosen]
        click.echo(json.dumps({"inventory": output, "hosts": rows}, indent=2))
    else:
        if told:
            click.echo(_table(told))
        click.echo(f"{output}: {counted(len(chosen), 'host')}")
        _go_on(ctx, output, told)
    ctx.exit(0 if ready else 1)


# -- which hosts


def _choose(asks: bool) -> tuple[Candidate, ...]:
    """Those that a person takes of what this machine knows. Raises InputError without a person."""
    own, known, hashed = discovery.found_here()
    if own:
        click.echo(f"in ~/.ssh/config: {nodeset.fold(c.name for c in own)}", err=True)
    if known:
        click.echo(f"in ~/.ssh/known_hosts: {nodeset.fold(c.name for c in known)}", err=True)
    if hashed:
        lines = counted(hashed, "line")
        click.echo(f"{lines} of ~/.ssh/known_hosts are hashed, which nobody can read", err=True)
    if not asks:
        raise InputError("which hosts?", "launcher init gpu[01-04] alice@big:2222, or --hostfile F")
    default = ",".join(c.name for c in own)
    while True:
        typed = click.prompt(
            "Which hosts? names, nodesets, user@host:port", default=default or None, err=True
        )
        try:
            if chosen := discovery.from_words(typed):
                return chosen
        except InputError as error:
            click.echo(f"{error.message}: {error.hint}", err=True)


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None


# -- what they have


def _probe(chosen: Sequence[Candidate], asks: bool) -> dict[str, Facts | HostError]:
    click.echo(f"looking at {counted(len(chosen), 'host')} ...", err=True)
    return asyncio.run(discovery.probe(chosen, ask_passphrase if asks else None))


def _words(told: dict[str, Facts | HostError]) -> dict[str, Facts | str]:
    return {n: a if isinstance(a, Facts) else a.message for n, a in told.items()}


def _table(told: dict[str, Facts | HostError]) -> str:
    return table(("host", "gpus", "cores", "python", "rsync", ""), list(_rows(told)))


def _rows(told: dict[str, Facts | HostError]) -> Iterator[tuple[str, ...]]:
    for name, answer in told.items():
        if isinstance(answer, Facts):
            gpus, cores = str(len(answer.gpus) or "-"), str(answer.cpus)
            yield name, gpus, cores, answer.python_version, answer.rsync or "-", ""
        else:
            yield name, "-", "-", "-", "-", discovery.plain(answer.message)


def _described(one: Candidate, answer: Facts | HostError | None) -> dict[str, Any]:
    row: dict[str, Any] = vars(one) | {"ready": isinstance(answer, Facts) and bool(answer.rsync)}
    if isinstance(answer, HostError):
        row["error"] = {"code": answer.code, "message": answer.message, "hint": answer.hint}
    return row


# -- the file


def _may_write(file: Path, yes: bool, asks: bool) -> None:
    """Raises InputError when there is one that nobody gave away."""
    if yes or not file.exists():
        return
    if not asks or not click.confirm(f"{file} is there: write over it?", default=False, err=True):
        raise InputError(f"{file} is there, and stays", "-o FILE, or --yes to write over it")


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".{file.name}.{os.getpid()}")
        scratch.write_text(text, "utf-8")
        scratch.replace(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}", "-o FILE") from None


def _go_on(ctx: click.Context, output: str, told: dict[str, Facts | HostError]) -> None:
    """What comes next: help for hosts that are not ready, a check of those that are."""
    bare = [n for n, a in told.items() if not (isinstance(a, Facts) and a.rsync)]
    helped = [name for name in bare if not isinstance(told[name], _NO_BOOTSTRAP)]
    if helped:
        names = nodeset.fold(helped)
        click.echo(f"next: launcher bootstrap -i {output} --hosts {names}", err=True)
    group = ctx.parent.command if ctx.parent else None
    check = group.get_command(ctx, "check") if isinstance(group, click.Group) else None
    if check and told and not bare:
        check.main(["-i", output], prog_name="launcher check", standalone_mode=False)
