"""What a shell offers when a word is not finished: runs, hosts and groups, scripts and job files.

What cannot be read is not offered, and nothing is said: whoever presses Tab is in the middle of a
line.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from glob import escape, glob

import click
from click.shell_completion import CompletionItem

from ..api.hosts import load_inventory
from ..spec.errors import LauncherError
from .inventory_lookup import find_inventory
from .shells import PATH

Items = list[CompletionItem]


def runs(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Names of runs, the latest first."""
    from ..api.client import Client

    return _items(reversed(Client().names()), beginning)


def hosts(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Hosts and groups of the inventory that the line or habit names; after a comma the next one."""

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


def frameworks(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Names of frameworks."""
    from ..api.jobs import framework_names

    return _items(framework_names(), beginning)


def files(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Whatever the shell itself would offer for a file."""
    return [CompletionItem(beginning, type="file")]


def scripts(ctx: click.Context, parameter: click.Parameter, beginning: str) -> Items:
    """Job files and scripts; any file where there are none, and behind the script."""
    if ctx.params.get(parameter.name or ""):
        return files(ctx, parameter, beginning)
    found = sorted(glob(f"{escape(os.path.expanduser(beginning))}*"))
    fitting = [path for path in found if path.endswith((".yaml", ".yml", ".py"))]
    if not fitting or beginning.startswith("~"):
        return files(ctx, parameter, beginning)
    return [CompletionItem(_as_path(path), type=PATH) for path in fitting if path.isprintable()]


def _as_path(path: str) -> str:
    """The path, so that nothing takes it for an option or somebody's home."""
    return f"./{path}" if path.startswith(("-", "~")) else path


def _items(names: Iterable[str], beginning: str) -> Items:
    fitting = [name for name in names if name.startswith(beginning)]
    return [CompletionItem(name) for name in fitting if name.isprintable()]
