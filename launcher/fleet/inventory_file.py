"""The inventory as a file: read in any format that is known, resolved, edited, and its sandbox."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from ..spec import inventory as inventories
from ..spec.errors import DocumentError, InputError
from ..spec.files import read_text
from ..spec.model import Inventory


def load_inventory(path: str | os.PathLike[str]) -> Inventory:
    """The inventory in a file: ours, or one of the formats of :mod:`launcher.interop.inventories`.

    What could not be carried over is in its ``notes``. Raises DocumentError.
    """
    content = read_text(path, "inventory")
    try:
        found = inventories.load(content, str(path))
    except DocumentError as error:
        found = _foreign(content, path, error)
    return _resolved(found, Path(path).parent)


def _foreign(content: str, path: str | os.PathLike[str], error: DocumentError) -> Inventory:
    """Somebody else's inventory. Raises ``error`` when it looks like ours."""
    from ..interop import inventories as formats  # most inventories are ours

    form = formats.recognise(formats.Text(content, str(path)))
    if form is None:
        raise error
    found = formats.read(content, str(path), form)[1].inventory()
    if form == "ssh_config":  # ssh's own words hold for the connections, so nothing is lost
        return replace(found, ssh_config=str(Path(path).absolute()), notes=())
    return found


def _resolved(inventory: Inventory, base: Path) -> Inventory:
    """Paths that stand in the file, as paths from anywhere."""
    if inventory.sandbox:
        from . import sandbox

        return replace(inventory, ssh_config=str(sandbox.ssh_config()))
    if inventory.ssh_config is None:
        return inventory
    return replace(inventory, ssh_config=str(base / Path(inventory.ssh_config).expanduser()))


def write_interfaces(path: str | os.PathLike[str], interfaces: dict[str, str]) -> None:
    """Writes ``interface:`` of hosts into an inventory's file; the rest of it stays as it is.

    Raises InputError when that cannot be done safely.
    """
    from ..spec.inventory_editor import with_interface

    old = read_text(path, "inventory")
    new = with_interface(old, str(path), interfaces)
    target = Path(path).resolve()
    scratch = target.with_name(target.name + ".new")
    try:
        scratch.write_text(new, "utf-8")
        scratch.chmod(target.stat().st_mode)
        scratch.replace(target)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}") from None


def sandbox_of(inventory: Inventory) -> AbstractContextManager[None]:
    """Keep the embedded hosts up inside this context, where the inventory wants them."""
    if not inventory.sandbox:
        return nullcontext()
    from . import sandbox

    numbers = [host.name.removeprefix("local") for host in inventory.hosts]
    return sandbox.for_a_run(max(int(n) if n.isdigit() else 1 for n in numbers))
