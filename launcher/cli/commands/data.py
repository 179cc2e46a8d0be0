"""``launcher data``: data sets by name, here and on hosts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

import click

from ...api import data
from ...api.data import DataFreed, HostError, KnownSet, Place
from ...api.hosts import select_hosts
from ...records import events as ev
from ...spec import nodeset
from ...spec.errors import InputError
from ...spec.sizes import size
from .. import completion, options
from ..again import Again, continued
from ..grouped import CommandGroup
from ..inventory_lookup import find_inventory, loaded
from ..render.columns import output_width
from ..render.data import known_text, set_text, source_host, there_text
from ..render.messages import complain_of_hosts
from ..render.run_view import Screen
from ..render.tables import counted
from ..run_argument import passphrases

T = TypeVar("T")
_name = click.argument("name", metavar="NAME")


@click.group("data", cls=CommandGroup)
def command() -> None:
    """Manage data sets: folders that runs find on every host, each version once, by content.

    A run names those that it uses: --data NAME, or data: in a job file.
    """


@command.command("add")
@_name
@click.argument("source", metavar="FROM")
@click.option("--to", default="", metavar="PATH", help="Where runs find it: data/x, or /data/x.")
@click.option(
    "--credential",
    default="",
    metavar="NAME",
    help="Read its store with this credential, as launcher credential keeps it.",
    shell_complete=completion.credentials,
)
@options.inventory
@options.as_json
def add_command(
    name: str, source: str, to: str, credential: str, inventory: str | None, as_json: bool
) -> None:
    """Read what is at FROM, and keep it under NAME. Nothing is copied yet.

    FROM is a folder here, a folder of a host (gpu3:/path), s3://bucket/path, gs://bucket/path,
    az://container/path or https://host/file. Files are read once, and those that have changed when the
    set is used.
    """
    place = _place(inventory, None) if data.on_a_host(source) else None
    added = asyncio.run(_add(name, source, to, place, credential))
    click.echo(json.dumps(asdict(added), indent=2) if as_json else set_text(added, time.time()))


async def _add(name: str, source: str, to: str, place: Place | None, credential: str) -> KnownSet:
    screen = Screen()
    async with screen:
        screen.on_event(ev.StageStarted(time.time(), "data"))
        return await data.add(name, source, to, screen.on_event, place, credential)


@command.command("ls")
@options.as_json
def ls_command(as_json: bool) -> None:
    """List the data sets of this machine."""
    sets = data.known()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in sets], indent=2))
    else:
        click.echo(known_text(sets, time.time(), output_width()))


@command.command("show")
@_name
@options.inventory
@options.hosts
@options.as_json
@click.pass_context
def show_command(
    ctx: click.Context, name: str, inventory: str | None, hosts: str | None, as_json: bool
) -> None:
    """Show a data set, and which hosts have which version of it.

    Without an inventory only this machine is looked at. The exit code is 1 if a host did not answer.
    """
    one = data.find(name)
    is_known = find_inventory(inventory) is not None or hosts
    there = asyncio.run(_place(inventory, hosts).sets()) if is_known else {}
    if as_json:
        on_hosts = {
            host: {"error": found.message}
            if isinstance(found, HostError)
            else [asdict(its) for its in found.sets if its.name == name]
            for host, found in there.items()
        }
        click.echo(json.dumps({**asdict(one), "hosts": on_hosts}, indent=2))
    else:
        click.echo(set_text(one, time.time()))
        if there:
            click.echo(there_text(one, there, time.time()))
    _finish(ctx, there)


@command.command("push")
@_name
@options.inventory
@options.hosts
@options.max_rate
@options.as_json
@click.pass_context
def push_command(
    ctx: click.Context,
    name: str,
    inventory: str | None,
    hosts: str | None,
    max_rate: str | None,
    as_json: bool,
) -> None:
    """Bring what a data set holds now to hosts, ahead of a run.

    What has arrived when it is interrupted stays there; another push continues. The exit code is 1 if a
    host did not get it.
    """
    rate = options.rate_of(max_rate)
    with continued("the next push", Again()):
        one, done = asyncio.run(_push(_place(inventory, hosts), name, rate))
    sent = _answered(done)
    if as_json:
        value = {"version": one.version.version, "sent": sent, "failed": _failed(done)}
        click.echo(json.dumps(value, indent=2))
    elif sent:
        there = f"{counted(len(sent), 'host')} ({nodeset.fold(sent)})"
        total = size(sum(sent.values()))
        click.echo(f"{name}, version {one.version.short}, is on {there}; {total} sent", err=True)
    _finish(ctx, done)


async def _push(
    place: Place, name: str, rate: int
) -> tuple[KnownSet, Mapping[str, int | HostError]]:
    screen = Screen()
    async with screen:
        screen.on_event(ev.StageStarted(time.time(), "data"))
        return await data.push(place, name, screen.on_event, rate)


@command.command("verify")
@_name
@options.inventory
@options.hosts
@options.as_json
@click.pass_context
def verify_command(
    ctx: click.Context, name: str, inventory: str | None, hosts: str | None, as_json: bool
) -> None:
    """Have hosts read a data set again, and compare every file with its checksum.

    A host where files differ keeps the others as an incomplete copy, which the next push or run
    completes; while a run uses it, all of it stays. The exit code is 1 if files differ on a host, or it
    did not answer.
    """
    one = data.find(name)
    done = asyncio.run(_verify(_place(inventory, hosts), one))
    found = _answered(done)
    if as_json:
        _print_json(done)
    else:
        for word, hosts_of in _verdicts(found, source_host(one)).items():
            click.echo(f"{nodeset.fold(hosts_of)}: {word}")
    _finish(ctx, done, any(its.count for its in found.values()))


async def _verify(place: Place, one: KnownSet) -> Mapping[str, data.DataExamined | HostError]:
    screen = Screen()
    async with screen:
        screen.on_event(ev.StageStarted(time.time(), "verify"))
        return await place.verify(one.version.version, one.version.bytes, screen.on_event)


def _verdicts(found: Mapping[str, data.DataExamined], source: str | None) -> dict[str, list[str]]:
    verdicts: dict[str, list[str]] = {}
    for host, its in found.items():
        word = "whole" if its.here else "does not have this version"
        if not its.here and host == source:
            word = "the source, which is not checked"
        if its.count:
            path, why = its.bad[0] if its.bad else ("?", "differs")
            files = "1 file differs" if its.count == 1 else f"{its.count} files differ"
            word = f"{files}: {path} {why}; launcher data push brings what differs again"
        verdicts.setdefault(word, []).append(host)
    return verdicts


@command.command("pin")
@_name
@options.inventory
@options.hosts
@click.option("--off", is_flag=True, help="Let it be deleted again.")
@options.as_json
@click.pass_context
def pin_command(
    ctx: click.Context,
    name: str,
    inventory: str | None,
    hosts: str | None,
    off: bool,
    as_json: bool,
) -> None:
    """Let the present version of a data set stay on hosts: no prune and no full disk removes it."""
    one = data.find(name)
    done = asyncio.run(_place(inventory, hosts).pin(one.version.version, not off))
    found = _answered(done)
    has = [host for host, its in found.items() if its.here]
    lacks = [host for host, its in found.items() if not its.here]
    if as_json:
        value = {"pinned": not off, "hosts": has, "missing": lacks, "failed": _failed(done)}
        click.echo(json.dumps(value, indent=2))
    else:
        state = "no longer pinned" if off else "pinned"
        if has:
            click.echo(f"{name}, version {one.version.short}, is {state} on {nodeset.fold(has)}")
        if lacks:
            click.echo(
                f"{nodeset.fold(lacks)} does not have it: launcher data push {name}", err=True
            )
    _finish(ctx, done, bool(lacks))


@command.command("rm")
@_name
@options.inventory
@options.hosts
@options.as_json
@click.pass_context
def rm_command(
    ctx: click.Context, name: str, inventory: str | None, hosts: str | None, as_json: bool
) -> None:
    """Forget a data set; with --hosts, delete what these hosts have of it, too.

    Its source stays, and so does what a run is using. The exit code is 1 if a host did not answer.
    """
    data.find(name)
    done = asyncio.run(_place(inventory, hosts).remove([name])) if hosts else {}
    if not _failed(done):
        data.forget(name)
        stays = "" if hosts else "; hosts keep their copies until launcher data prune"
        click.echo(f"{name} is forgotten{stays}", err=True)
    _tell_freed(done, as_json)
    _finish(ctx, done)


@command.command("prune")
@options.inventory
@options.hosts
@click.option("--keep", required=True, metavar="SIZE", help="Leave as much on each host: 500GB.")
@options.as_json
@click.pass_context
def prune_command(
    ctx: click.Context, inventory: str | None, hosts: str | None, keep: str, as_json: bool
) -> None:
    """Delete data sets from hosts that were not used for longest, until SIZE is left.

    What a run is using stays, and what is pinned. The exit code is 1 if a host did not answer.
    """
    try:
        count = data.byte_count(keep)
    except ValueError as error:
        raise InputError(f"--keep: {error}") from None
    done = asyncio.run(_place(inventory, hosts).prune(count))
    _tell_freed(done, as_json)
    _finish(ctx, done)


def _tell_freed(done: Mapping[str, DataFreed | HostError], as_json: bool) -> None:
    if as_json:
        _print_json(done)
        return
    found = _answered(done)
    if found:
        freed = size(sum(its.freed for its in found.values()))
        click.echo(f"freed {freed} on {counted(len(found), 'host')} ({nodeset.fold(found)})")
    kept = [host for host, its in found.items() if its.kept]
    if kept:
        click.echo(f"{nodeset.fold(kept)}: what is in use or pinned stays", err=True)


# -- hosts


def _place(inventory: str | None, hosts: str | None) -> Place:
    found = loaded(inventory)
    return Place(found, select_hosts(found, hosts), passphrases())


def _answered(done: Mapping[str, T | HostError]) -> dict[str, T]:
    return {host: its for host, its in done.items() if not isinstance(its, HostError)}


def _failed(done: Mapping[str, Any]) -> dict[str, str]:
    return {host: its.message for host, its in done.items() if isinstance(its, HostError)}


def _print_json(done: Mapping[str, Any]) -> None:
    hosts = {host: asdict(its) for host, its in _answered(done).items()}
    click.echo(json.dumps({"hosts": hosts, "failed": _failed(done)}, indent=2))


def _finish(ctx: click.Context, done: Mapping[str, Any], is_bad: bool = False) -> None:
    errors = [its for its in done.values() if isinstance(its, HostError)]
    complain_of_hosts(errors)
    ctx.exit(1 if errors or is_bad else 0)
