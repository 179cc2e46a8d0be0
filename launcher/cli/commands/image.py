"""``launcher image``: images on hosts, ahead of runs and after them."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from ...api import images
from ...api.hosts import select_hosts
from ...api.images import HostError, ImagePlace
from ...records import events as ev
from ...spec import nodeset
from ...spec.containers import RUNTIMES, SHORT
from .. import completion, options
from ..again import Again, continued
from ..answers import answers_of
from ..grouped import CommandGroup
from ..inventory_lookup import loaded
from ..render.columns import width_of
from ..render.images import listed_text
from ..render.messages import complain_of_hosts
from ..render.run_view import Screen
from ..render.tables import counted
from ..run_argument import passphrases


@click.group("image", cls=CommandGroup)
def command() -> None:
    """Manage images on hosts: those that runs have used, or that launcher brought.

    A run names the one that it starts in: --image NAME, or environment: in a job file.
    """


@command.command("ls")
@options.inventory
@options.hosts
@options.as_json
@click.pass_context
def ls_command(ctx: click.Context, inventory: str | None, hosts: str | None, as_json: bool) -> None:
    """List the images that runs have used on hosts, or that launcher brought there.

    Hosts that have the same one are one row. Other images of podman and docker are not shown. The exit
    code is 1 if a host, or its runtime, did not answer.
    """
    place = _place(inventory, hosts)
    done = answers_of(len(place.hosts), images.listed(place))
    found = {host: its for host, its in done.items() if not isinstance(its, HostError)}
    failed = _failed(done)
    if as_json:
        value = {"hosts": {host: asdict(its) for host, its in found.items()}, "failed": failed}
        click.echo(json.dumps(value, indent=2))
    elif found:
        click.echo(listed_text(found, time.time(), width_of(sys.stdout)))
    _finish(ctx, done, any(its.trouble for its in found.values()))


_runtime = click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    help="What is to have it (default: what a run would take).",
)
_mounts = click.option(
    "--mount",
    "mounts",
    multiple=True,
    metavar="PATH[:PLACE][:ro]",
    help="Path of the hosts that the image needs to start, as in a run (repeatable).",
)


@command.command("load")
@click.argument("image", metavar="FILE|NAME", shell_complete=completion.files)
@options.inventory
@options.hosts
@_runtime
@_mounts
@options.as_json
@click.pass_context
def load_command(
    ctx: click.Context,
    image: str,
    inventory: str | None,
    hosts: str | None,
    runtime: str | None,
    mounts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bring an image to hosts ahead of a run: a tar or OCI folder of this machine, or a name.

    Hosts get it as a run would give it to them, and start it once. Those that have it keep it. What is
    interrupted is continued by the next one. The exit code is 1 if a host did not get it.
    """
    with continued("the next load", Again()):
        given = asyncio.run(_load(_place(inventory, hosts), image, runtime or "", mounts))
    if as_json:
        _print_json({"image": image, "ids": _ids(given)}, given)
    elif given.found:
        _say_where(image, given)
    _finish(ctx, given.failed)


async def _load(
    place: ImagePlace, image: str, runtime: str, mounts: tuple[str, ...]
) -> images.Given:
    screen = Screen()
    async with screen:
        screen.on_event(ev.StageStarted(time.time(), "environment"))
        return await images.load(place, image, runtime, mounts, screen.on_event)


@command.command("push")
@click.argument("image", metavar="NAME")
@options.inventory
@options.hosts
@_runtime
@_mounts
@options.as_json
@click.pass_context
def push_command(
    ctx: click.Context,
    image: str,
    inventory: str | None,
    hosts: str | None,
    runtime: str | None,
    mounts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Bring an image to hosts as podman or docker of this machine has it; no registry is asked.

    If this machine lacks it, the first host that has it counts. Hosts where the name means another image
    get this one. The exit code is 1 if a host did not get it.
    """
    with continued("the next push", Again()):
        given, source = asyncio.run(_push(_place(inventory, hosts), image, runtime or "", mounts))
    if as_json:
        _print_json({"image": image, "from": source or None, "ids": _ids(given)}, given)
    elif given.found:
        _say_where(f"{image} of {source or 'this machine'}", given)
    _finish(ctx, given.failed)


async def _push(
    place: ImagePlace, image: str, runtime: str, mounts: tuple[str, ...]
) -> tuple[images.Given, str]:
    screen = Screen()
    async with screen:
        screen.on_event(ev.StageStarted(time.time(), "environment"))
        return await images.push(place, image, runtime, mounts, screen.on_event)


@command.command("build")
@click.argument("path", metavar="PATH", shell_complete=completion.files)
@options.inventory
@options.hosts
@click.option(
    "--tag", metavar="NAME", default="", help="Name of the image on hosts, as lab/train:2."
)
@click.option("--pull", is_flag=True, help="Look for newer images to begin from, and build anew.")
@click.option(
    "--build-arg",
    "arguments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of an ARG in the Dockerfile (repeatable). It stays readable in the image.",
)
@click.option(
    "--context",
    metavar="DIR",
    default="",
    help="Folder whose files the Dockerfile may copy (default: its own).",
)
@click.option(
    "--runtime",
    type=click.Choice(["auto", "podman", "docker"]),
    default=None,
    help="What builds and has it (default: what a run would take).",
)
@_mounts
@options.as_json
@click.pass_context
def build_command(
    ctx: click.Context,
    /,
    path: str,
    inventory: str | None,
    hosts: str | None,
    runtime: str | None,
    as_json: bool,
    **recipe: Any,
) -> None:
    """Build an image of a Dockerfile, or of a folder with one, and bring it to hosts.

    podman or docker of this machine builds it, or else that of the first host which has one. If nothing
    has changed since the last time, that image is taken. The exit code is 1 if a host did not get it.
    """
    what = images.Recipe(_as_path(path), **recipe)
    done = asyncio.run(_build(_place(inventory, hosts), what, runtime or ""))
    given = done.given
    if as_json:
        image = done.image
        value = {
            "image": path,
            "id": image.id if image else None,
            "tag": image.tag if image else None,
            "built": done.was_built,
            "on": image.on if image else None,
            "runtime": image.runtime if image else None,
            "machine": image.machine if image else None,
            "log": done.log,
        }
        _print_json(value, given)
    elif done.image:
        if given.found:
            _say_where(path, given)
        if not done.was_built:
            hint = f"launcher image build --pull {shlex.quote(path)}"
            click.echo(f"{hint} looks for newer images to begin from", err=True)
    _finish(ctx, given.failed)


def _as_path(text: str) -> str:
    """Return a path so that nobody takes it for the name of an image."""
    return text if text.startswith(("/", "./", "../", "~")) else f"./{text}"


async def _build(place: ImagePlace, recipe: images.Recipe, runtime: str) -> images.BuiltImage:
    screen = Screen()
    async with screen:
        screen.on_event(ev.StageStarted(time.time(), "environment"))
        return await images.build(place, recipe, runtime, screen.on_event)


def _had(given: images.Given) -> list[str]:
    return sorted({*given.found} - {*given.brought})


def _ids(given: images.Given) -> dict[str, str]:
    return {host: its.id for host, its in given.found.items()}


def _print_json(value: dict[str, Any], given: images.Given) -> None:
    """Print what is told of an image, and which hosts got it, had it and failed."""
    value |= {
        "brought": list(given.brought),
        "had": _had(given),
        "failed": {host: error.message for host, error in given.failed.items()},
    }
    click.echo(json.dumps(value, indent=2))


def _say_where(image: str, given: images.Given) -> None:
    """Say which hosts got an image, and which had it."""
    brought, there = given.brought, _had(given)
    first = next(iter(given.found.values()))
    name = f"{image} ({first.id[:SHORT]})" if first.id else image
    parts = []
    if brought:
        on = f"{counted(len(brought), 'host')} ({nodeset.fold(brought)})"
        parts.append(f"was brought to {on}")
    if there:
        parts.append(f"was on {nodeset.fold(there)} before")
    click.echo(f"{name} {', and '.join(parts)}", err=True)


@command.command("rm")
@click.argument("image", metavar="NAME|ID")
@options.inventory
@options.hosts
@options.as_json
@click.pass_context
def rm_command(
    ctx: click.Context, image: str, inventory: str | None, hosts: str | None, as_json: bool
) -> None:
    """Remove an image from hosts, with all its names there: one that launcher image ls shows.

    Where a run or a container uses it, it stays. The exit code is 1 if a host keeps it, or did not
    answer.
    """
    done = asyncio.run(images.remove(_place(inventory, hosts), image))
    gone, left = dict[str, list[str]](), dict[str, HostError]()
    for host, its in done.items():
        if isinstance(its, HostError):
            left[host] = its
            continue
        for one, removed in its:
            if error := images.stays(host, one, removed):
                left[host] = error
            else:
                gone.setdefault(images.short_name(one.label), []).append(host)
    if as_json:
        states = {
            host: [{"runtime": one.runtime, "id": one.id, **asdict(state)} for one, state in its]
            for host, its in done.items()
            if not isinstance(its, HostError)
        }
        click.echo(json.dumps({"hosts": states, "failed": _failed(left)}, indent=2))
    for name, on in {} if as_json else gone.items():
        click.echo(f"removed {name} from {nodeset.fold(on)}")
    _finish(ctx, left)


def _place(inventory: str | None, hosts: str | None) -> ImagePlace:
    found = loaded(inventory)
    return ImagePlace(found, select_hosts(found, hosts), passphrases())


def _failed(done: Mapping[str, Any]) -> dict[str, str]:
    return {host: its.message for host, its in done.items() if isinstance(its, HostError)}


def _finish(ctx: click.Context, done: Mapping[str, Any], is_bad: bool = False) -> None:
    errors = [its for its in done.values() if isinstance(its, HostError)]
    complain_of_hosts(errors)
    ctx.exit(1 if errors or is_bad else 0)
