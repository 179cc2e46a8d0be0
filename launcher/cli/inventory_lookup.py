"""Load the inventory, and print notes about one in another tool's format."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from ..api.hosts import ProgramLine as ProgramLine
from ..api.hosts import allow, are_allowed, load_inventory, programs, require_allowed
from ..api.inventory_lookup import IN_A_PROJECT as IN_A_PROJECT
from ..api.inventory_lookup import INVENTORY as INVENTORY
from ..api.inventory_lookup import find_inventory as find_inventory
from ..api.inventory_lookup import need_inventory as need_inventory
from ..spec.model import Inventory


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
