"""What the latest check of an inventory found, for who looks at its hosts later."""

from __future__ import annotations

from contextlib import suppress

from ..records.record_files import read_as, write_record
from ..spec.errors import RecordError
from ..spec.frozen import frozen
from ..spec.home import home, make_home
from ..spec.model import Inventory
from ..spec.typed_json import to_json
from . import allowed
from .findings import Finding

#: The file at home, and of how many inventories it keeps a check.
FILE, MOST = "last-checks.json", 20


@frozen
class LastCheck:
    """When hosts were checked, in seconds since the epoch, which, and what was found."""

    time: float
    hosts: tuple[str, ...]
    findings: tuple[Finding, ...]


def of(inventory: Inventory) -> LastCheck | None:
    """Return the latest check of the hosts of an inventory; None if none is known. A changed list of
    hosts is another inventory."""
    return _known().get(_key(inventory))


def keep(inventory: Inventory, check: LastCheck) -> None:
    """Keep a check as the latest one of its inventory, if there is room on the disk."""
    known = _known()
    known.pop(_key(inventory), None)
    kept = [*known.items(), (_key(inventory), check)][-MOST:]
    with suppress(OSError, RecordError):
        write_record(make_home() / FILE, {key: to_json(one) for key, one in kept})


def _known() -> dict[str, LastCheck]:
    return read_as(dict[str, LastCheck], home() / FILE) or {}


def _key(inventory: Inventory) -> str:
    hosts = ((one.name, one.address or "") for one in inventory.hosts)
    return allowed.digest(*(part for host in hosts for part in host))
