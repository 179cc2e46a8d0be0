"""Where an inventory is looked for, and what is said of one that is another tool's."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ..api.hosts import load_inventory
from ..spec.errors import InputError
from ..spec.model import Inventory

#: The variable that names one.
INVENTORY = "LAUNCHER_INVENTORY"
#: Looked for when nothing names one, in this order.
USUAL_PLACES = ("inventory.yaml", "inventory/lab.yaml", "~/.launcher/inventory.yaml")


def find_inventory(given: str | None) -> str | None:
    """The file that a flag, the environment or habit names; None when there is none."""
    named = given or os.environ.get(INVENTORY)
    if named:
        return named
    paths = (Path(place).expanduser() for place in USUAL_PLACES)
    return next((str(path) for path in paths if path.exists()), None)


def need_inventory(given: str | None) -> str:
    """The same. Raises InputError when there is none."""
    found = find_inventory(given)
    if found is None:
        raise InputError(
            "no inventory",
            f"launcher init writes one; else -i FILE, {INVENTORY}, or one of {', '.join(USUAL_PLACES)}",
        )
    return found


def loaded(given: str | None) -> Inventory:
    """The hosts of it, after a word on what of another tool's inventory is left out. Every command that
    goes to hosts takes them from here. Raises InputError."""
    inventory = load_inventory(need_inventory(given))
    tell_notes(inventory)
    return inventory


#: Notes that are shown when an inventory of another format is used; `inventory import` shows all.
SHOWN_NOTES = 5


def tell_notes(inventory: Inventory, all_of_them: bool = False) -> None:
    """Says on stderr what of another tool's inventory could not be carried over."""
    most = None if all_of_them else SHOWN_NOTES
    for one in inventory.notes[:most]:
        note(f"{inventory.source}: {one}")
    left = len(inventory.notes) - (most or len(inventory.notes))
    if left > 0:
        note(f"and {left} more: launcher inventory import {inventory.source}")


def note(text: str) -> None:
    """A line on stderr that is no error."""
    click.secho("note: ", fg="yellow", err=True, nl=False)
    click.echo(text, err=True)
