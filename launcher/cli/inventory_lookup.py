"""Find the inventory, and print notes about one in another tool's format."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..api.hosts import load_inventory
from ..spec.errors import InputError
from ..spec.model import Inventory

#: The environment variable that names an inventory.
INVENTORY = "LAUNCHER_INVENTORY"
#: Tried in this order if nothing names an inventory.
USUAL_PLACES = ("inventory.yaml", "inventory/lab.yaml", "~/.launcher/inventory.yaml")


def find_inventory(given: str | None) -> str | None:
    """Return the file named by a flag or the environment, or the first usual one that exists."""
    named = given or os.environ.get(INVENTORY)
    if named:
        return named
    paths = (Path(place).expanduser() for place in USUAL_PLACES)
    return next((str(path) for path in paths if path.exists()), None)


def need_inventory(given: str | None) -> str:
    """Return what :func:`find_inventory` finds. Raises InputError if that is nothing."""
    found = find_inventory(given)
    if found is None:
        raise InputError(
            "no inventory",
            "create one with launcher init; or name one with -i (--inventory, not a container image) "
            f"or {INVENTORY}. Also read: {', '.join(USUAL_PLACES)}",
        )
    return found


def loaded(given: str | None) -> Inventory:
    """Return the inventory, after notes on what could not be read of another tool's.

    Every command that goes to hosts gets them here. Raises InputError.
    """
    inventory = load_inventory(need_inventory(given))
    tell_notes(inventory)
    return inventory


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
