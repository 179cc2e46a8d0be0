"""``launcher init``: write a first inventory, with questions if there is a terminal."""

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
from ..inventory_lookup import IN_A_PROJECT
from ..render.columns import output_width
from ..render.tables import counted, table
from ..run_argument import passphrases

#: What `launcher bootstrap` cannot help with.
_NO_BOOTSTRAP = (Unreachable, Refused, NoBanner, HostKeyMismatch)


@click.command("init")
@click.argument("words", nargs=-1, metavar="[[USER@]HOST[:PORT]]...")
@click.option("-f", "--hostfile", metavar="FILE", help="Lines of `host` or `host slots=8`.")
@click.option("-o", "--output", default=IN_A_PROJECT[0], show_default=True, help="Write this file.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing; overwrite an existing file.")
@click.option("--no-probe", is_flag=True, help="Do not connect to the hosts.")
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
    """Write a first inventory of the hosts you name, or of hosts that ~/.ssh names.

    If the file exists, hosts that are not in it are added. launcher connects to each host, prints
    what it finds, and writes it with comments. The exit code is 1 if a host is not ready; the file is
    still written.
    """
    asks = sys.stdin.isatty() and not yes
    chosen = discovery.from_words(" ".join(words))
    if hostfile:
        chosen += discovery.from_hostfile(_read(Path(hostfile)), hostfile)
    chosen = chosen or _choose(asks)
    file = Path(output)
    adds = file.exists() and not yes
    if adds:
        chosen = _new_ones(file, chosen, asks)
    answers = {} if no_probe else _probe(chosen, asks, file if adds else None)
    facts = _facts_or_message(answers)
    if adds:
        discovery.add_hosts(file, discovery.host_entries(chosen, facts))
    else:
        _write(file, discovery.inventory_text(chosen, facts, time.strftime("%d %B %Y")))
    ready = all(isinstance(answer, Facts) and answer.rsync for answer in answers.values())
    if as_json:
        rows = [_described(one, answers.get(one.name)) for one in chosen]
        click.echo(json.dumps({"inventory": output, "hosts": rows}, indent=2))
    else:
        if answers:
            click.echo(_table(answers))
        click.echo(f"{output}: {counted(len(chosen), 'host')}{' added' if adds else ''}")
        _next_step(ctx, output, answers, adds)
    ctx.exit(0 if ready else 1)


# -- which hosts


def _choose(asks: bool) -> tuple[Candidate, ...]:
    """Let the user choose among hosts that this machine knows. Raises InputError without a terminal."""
    own, known, hashed = discovery.found_here()
    if own:
        click.echo(f"in ~/.ssh/config: {nodeset.fold(c.name for c in own)}", err=True)
    if known:
        click.echo(f"in ~/.ssh/known_hosts: {nodeset.fold(c.name for c in known)}", err=True)
    if hashed:
        lines = counted(hashed, "line")
        click.echo(f"{lines} of ~/.ssh/known_hosts cannot be read: hashed", err=True)
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


def _probe(
    chosen: Sequence[Candidate], asks: bool, file: Path | None
) -> dict[str, Facts | HostError]:
    click.echo(f"probing {counted(len(chosen), 'host')} ...", err=True)
    return asyncio.run(discovery.probe(chosen, passphrases() if asks else None, file))


def _facts_or_message(answers: dict[str, Facts | HostError]) -> dict[str, Facts | str]:
    return {
        name: answer if isinstance(answer, Facts) else answer.message
        for name, answer in answers.items()
    }


def _table(answers: dict[str, Facts | HostError]) -> str:
    head = ("host", "gpus", "cores", "python", "rsync", "")
    return table(head, list(_rows(answers)), width=output_width())


def _rows(answers: dict[str, Facts | HostError]) -> Iterator[tuple[str, ...]]:
    for name, answer in answers.items():
        if isinstance(answer, Facts):
            gpus, cores = str(len(answer.gpus) or "-"), str(answer.cpus)
            yield name, gpus, cores, answer.python_version, answer.rsync or "-", ""
        else:
            yield name, "-", "-", "-", "-", discovery.plain(answer.message)


def _described(one: Candidate, answer: Facts | HostError | None) -> dict[str, Any]:
    gpus = discovery.gpus_of(one, answer if isinstance(answer, Facts) else "")
    ready = isinstance(answer, Facts) and bool(answer.rsync)
    row: dict[str, Any] = vars(one) | {"gpus": gpus, "ready": ready}
    if isinstance(answer, HostError):
        row["error"] = {"code": answer.code, "message": answer.message, "hint": answer.hint}
    return row


# -- the file


def _new_ones(file: Path, chosen: Sequence[Candidate], asks: bool) -> tuple[Candidate, ...]:
    """Return the hosts that an inventory has not yet. Raises InputError where none can be added."""
    kept = "write another file with -o, or overwrite it with --yes"
    try:
        known = {host.name for host in discovery.load_inventory(file).hosts}
    except InputError as error:
        raise InputError(f"{file} exists, and is no inventory: {error.message}", kept) from None
    new = tuple(one for one in chosen if one.name not in known)
    if not new:
        raise InputError(f"{file} has {nodeset.fold(one.name for one in chosen)} already", kept)
    names = nodeset.fold(one.name for one in new)
    if asks and not click.confirm(f"{file} exists. Add {names} to it?", default=True, err=True):
        raise InputError(f"{file} exists", kept)
    return new


def _write(file: Path, text: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        scratch = file.with_name(f".{file.name}.{os.getpid()}")
        scratch.write_text(text, "utf-8")
        scratch.replace(file)
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}", "-o FILE") from None


def _next_step(
    ctx: click.Context, output: str, answers: dict[str, Facts | HostError], adds: bool
) -> None:
    """Propose a bootstrap for hosts that are not ready; if all are, check those that are new."""
    bare = [
        name for name, answer in answers.items() if not (isinstance(answer, Facts) and answer.rsync)
    ]
    helpable = [name for name in bare if not isinstance(answers[name], _NO_BOOTSTRAP)]
    if helpable:
        names = nodeset.fold(helpable)
        click.echo(f"next: launcher bootstrap -i {output} --hosts {names}", err=True)
    group = ctx.parent.command if ctx.parent else None
    check = group.get_command(ctx, "check") if isinstance(group, click.Group) else None
    if check and answers and not bare:
        those = ["--hosts", nodeset.fold(answers)] if adds else []
        check.main(["-i", output, *those], prog_name="launcher check", standalone_mode=False)
