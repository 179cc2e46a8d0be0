"""The hosts of an inventory and their settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..fleet.inventory_file import ShareChange, load_inventory, share_changed
from ..fleet.ssh_programs import ProgramLine, allow, are_allowed, programs, require_allowed
from ..jobs.gpus import FOREIGN, FREE, HELD, LEFT, GpuState
from ..jobs.gpus import states as gpu_states
from ..spec.home import home
from ..spec.inventory import narrowed
from ..spec.inventory import select as select_hosts
from ..spec.model import Host, Inventory

if TYPE_CHECKING:
    from ..fleet.settings import Effective

__all__ = [
    "FOREIGN",
    "FREE",
    "HELD",
    "LEFT",
    "GpuState",
    "ProgramLine",
    "ShareChange",
    "allow",
    "are_allowed",
    "gpu_states",
    "home",
    "load_inventory",
    "narrowed",
    "programs",
    "require_allowed",
    "schema",
    "select_hosts",
    "settings_of",
    "share_changed",
]


def settings_of(inventory: Inventory, host: Host) -> list[Effective]:
    """Return every setting of a host, and where each value comes from.

    Raises DocumentError, and ConnectError if ssh_config cannot be used.
    """
    from ..fleet.settings import effective

    return effective(inventory.source, inventory, host)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of an inventory."""
    from ..spec.inventory import json_schema

    return json_schema()
