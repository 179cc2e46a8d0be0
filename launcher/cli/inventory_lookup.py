"""Find the inventory, and print notes about one in another tool's format."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from ..api import settings
from ..api.hosts import ProgramLine as ProgramLine
from ..api.hosts import allow, are_allowed, home, load_inventory, programs, require_allowed
from ..spec.errors import InputError
from ..spec.model import Inventory

#: The environment variable that names an inventory.
INVENTORY = "LAUNCHER_INVENTORY"
#: Tried in this folder and then in each one above it, if nothing names an inventory.
IN_A_PROJECT = ("inventory.yaml", "inventory/lab.yaml")
#: Tried after those: the user's own, and that of everybody on this machine.
OF_A_USER, OF_ALL = "~/.launcher/inventory.yaml", "/etc/launcher/inventory.yaml"


def find_inventory(given: str | None) -> str | None:
    """Return the file named by a flag, the environment or settings, or the first usual one that exists.

    Raises InputError for settings that cannot be read.
    """
    named = given or os.environ.get(INVENTORY)
    if named:
        return named
    for file in reversed(settings.found()):
        if inventory := file.values().get("inventory"):
            return str(inventory)
    here = Path.cwd()
    for folder in (here, *here.parents):
        for name in IN_A_PROJECT:
            if (folder / name).exists() and (folder == here or _is_trusted(folder / name)):
                return os.path.relpath(folder / name)
    others = (home() / "inventory.yaml", Path(OF_A_USER).expanduser(), Path(OF_ALL))
    return next((str(path) for path in others if path.exists()), None)


def _is_trusted(path: Path) -> bool:
    """Return whether a file above this folder is the user's or root's: in /tmp it may be anybody's."""
    return path.stat().st_uid in (os.getuid(), 0)


def need_inventory(given: str | None) -> str:
    """Return what :func:`find_inventory` finds. Raises InputError if that is nothing."""
    found = find_inventory(given)
    if found is None:
        raise InputError(
            "no inventory",
            "create one with launcher init; or name one with -i (--inventory, not a container image) "
            f"or {INVENTORY}. Also read: {', '.join(IN_A_PROJECT)} here and in the folders above, "
            f"{OF_A_USER}, {OF_ALL}",
        )
    return found


def loaded(given: str | None, connects: bool = True) -> Inventory:
    """Return the inventory, after notes on what could not be read of another tool's.

    ``connects``: the command goes to hosts, so programs of an ssh_config that came with the inventory
    may run; at a terminal the user is asked once. Raises InputError.
    """
    inventory = load_inventory(need_inventory(given))
    tell_notes(inventory)
    if connects:
        _ask_about_programs(inventory)
        require_allowed(inventory)
    return inventory


def _ask_about_programs(inventory: Inventory) -> None:
    lines = programs(inventory)
    if are_allowed(lines) or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    show_programs(lines)
    if click.confirm("Let them run?", err=True):
        allow(lines)


def show_programs(lines: Sequence[ProgramLine]) -> None:
    """Print on stderr the programs that an ssh_config runs."""
    click.echo("This inventory's ssh_config runs programs on this machine:", err=True)
    for line in lines:
        click.echo(f"  {line.file}:{line.number}  {line.text}", err=True)


#: Notes shown when another tool's inventory is used; `inventory import` shows all.
SHOWN_NOTES = 5


def tell_notes(inventory: Inventory, all_of_them: bool = False) -> None:
    """Print on stderr what could not be converted from another tool's inventory."""
    most = None if all_of_them else SHOWN_NOTES
    for one in inventory.notes[:most]:
        note(f"{inventory.source}: {one}")
    left = len(inventory.notes) - (most or len(inventory.notes))
    if left > 0:
        note(f"and {left} more: launcher inventory import {inventory.source}")


def note(text: str) -> None:
    """Print a note on stderr."""
    click.secho("note: ", fg="yellow", err=True, nl=False)
    click.echo(text, err=True)
