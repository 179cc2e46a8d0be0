"""Complete words for the shell: runs, hosts and groups, frameworks, scripts and job files.

Errors are silent, since the user is in the middle of a line.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from glob import escape, glob

import click
from click.shell_completion import CompletionItem

from ..api.hosts import load_inventory
from ..spec.errors import LauncherError
from .inventory_lookup import find_inventory

#: Commands for which a run that has ended is no choice.
_OF_ACTIVE_RUNS = ("attach", "stop", "wait")

Items = list[CompletionItem]


def runs(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Complete names of runs, the latest first; those that have ended only where they may be meant."""
    from ..api.client import Client, home

    names = Client().names()
    if ctx.info_name in _OF_ACTIVE_RUNS:
        names = [name for name in names if not (home() / "runs" / name / "receipt.json").exists()]
    return _items(reversed(names), beginning)


def words(*known: str) -> Callable[[click.Context, click.Parameter, str], Items]:
    """Complete one of these words."""
    return lambda ctx, parameter, beginning: _items(known, beginning)


def folders(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Let the shell complete a folder."""
    return [CompletionItem(beginning, type="dir")]


def hosts(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Complete hosts and groups of the inventory in use, also after a comma."""
    place = find_inventory(ctx.params.get("inventory"))
    try:
        inventory = load_inventory(place) if place else None
    except (LauncherError, OSError):
        inventory = None
    if inventory is None:
        return []
    before, comma, _ = beginning.rpartition(",")
    names = [*inventory.groups, *(host.name for host in inventory.hosts)]
    return _items((f"{before}{comma}{name}" for name in names), beginning)


def credentials(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Complete names of credentials."""
    from ..api.credentials import names

    return _items(names(), beginning)


def frameworks(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Complete names of frameworks."""
    from ..api.jobs import framework_names

    return _items(framework_names(), beginning)


def files(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Let the shell complete a file."""
    return [CompletionItem(beginning, type="file")]


def scripts(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Complete job files and scripts; any file if there are none, or after the script."""
    if ctx.params.get(parameter.name or ""):
        return files(ctx, parameter, beginning)
    found = sorted(glob(f"{escape(os.path.expanduser(beginning))}*"))
    fitting = [path for path in found if path.endswith((".yaml", ".yml", ".py"))]
    if not fitting or beginning.startswith("~"):
        return files(ctx, parameter, beginning)
    from .shells import PATH  # a shell asks

    return [CompletionItem(_as_path(path), type=PATH) for path in fitting if path.isprintable()]


def _as_path(path: str) -> str:
    """Return a path that nothing takes for an option or somebody's home."""
    return f"./{path}" if path.startswith(("-", "~")) else path


def _items(names: Iterable[str], beginning: str) -> Items:
    fitting = [name for name in names if name.startswith(beginning)]
    return [CompletionItem(name) for name in fitting if name.isprintable()]
