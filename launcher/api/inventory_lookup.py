"""Find the inventory, as every command and plug-in does."""

from __future__ import annotations

import os
from pathlib import Path

from ..spec.errors import InputError
from ..spec.home import home
from . import settings

#: The environment variable that names an inventory.
INVENTORY = "LAUNCHER_INVENTORY"
#: Tried in this folder and then in each one above it, if nothing names an inventory.
IN_A_PROJECT = ("inventory.yaml", "inventory/lab.yaml")
#: Tried after those: the user's own, and that of everybody on this machine.
OF_A_USER, OF_ALL = "~/.launcher/inventory.yaml", "/etc/launcher/inventory.yaml"


def find_inventory(given: str | None) -> str | None:
    """Return the file that is given, or named by the environment or settings, or the first usual one.

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


def need_inventory(given: str | None = None) -> str:
    """Return the inventory that ``launcher run`` would use: the one that is ``given``, or the first that
    ``LAUNCHER_INVENTORY``, settings or the usual places name. Raises InputError if there is none."""
    found = find_inventory(given)
    if found is None:
        raise InputError(
            "no inventory",
            "create one with launcher init; or name one with -i (--inventory, not a container image) "
            f"or {INVENTORY}. Also read: {', '.join(IN_A_PROJECT)} here and in the folders above, "
            f"{OF_A_USER}, {OF_ALL}",
        )
    return found
