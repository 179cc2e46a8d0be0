"""Where an inventory is looked for."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError

#: The variable that names one.
INVENTORY = "LAUNCHER_INVENTORY"
#: Looked for when nothing names one, in this order.
USUAL_PLACES = ("inventory.yaml", "inventory/lab.yaml", "~/.launcher/inventory.yaml")


def inventory_file(given: str | None) -> str | None:
    """The file that a flag, the environment or habit names; None when there is none."""
    named = given or os.environ.get(INVENTORY)
    if named:
        return named
    paths = (Path(place).expanduser() for place in USUAL_PLACES)
    return next((str(path) for path in paths if path.exists()), None)


def need_inventory(given: str | None) -> str:
    """The same. Raises InputError when there is none."""
    found = inventory_file(given)
    if found is None:
        raise InputError(
            "no inventory", f"-i FILE, {INVENTORY}, or one of {', '.join(USUAL_PLACES)}"
        )
    return found
