"""Load the inventory from its file, in any known format; edit it, and start its sandbox."""

from __future__ import annotations

import codecs
import difflib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..spec import inventory as inventories
from ..spec.errors import DocumentError, InputError
from ..spec.files import read_text
from ..spec.frozen import frozen
from ..spec.model import Inventory


def load_inventory(path: str | os.PathLike[str]) -> Inventory:
    """Return the inventory in a file, in our format or one of ``launcher.interop.inventories``.

    Its ``notes`` list what could not be carried over. Raises DocumentError.
    """
    content = read_text(path, "inventory")
    try:
        found = inventories.load(content, str(path))
    except DocumentError as error:
        found = _foreign(content, path, error)
    return _resolved(found, Path(path).parent)


def _foreign(content: str, path: str | os.PathLike[str], error: DocumentError) -> Inventory:
    """Return another tool's inventory. Raises ``error`` if the file looks like ours."""
    from ..interop import inventories as formats  # most inventories are ours

    form = formats.recognise(formats.Text(content, str(path)))
    if form is None:
        raise error
    found = formats.read(content, str(path), form)[1].inventory()
    if form == "ssh_config":  # connections read the file itself, so nothing is lost
        return replace(found, ssh_config=str(Path(path).absolute()), notes=())
    return found


def _resolved(inventory: Inventory, base: Path) -> Inventory:
    """Resolve the paths in an inventory against its folder."""
    if inventory.sandbox:
        from . import sandbox

        return replace(inventory, ssh_config=str(sandbox.ssh_config()))
    if inventory.ssh_config is None:
        return inventory
    return replace(inventory, ssh_config=str(base / Path(inventory.ssh_config).expanduser()))


def write_interfaces(path: str | os.PathLike[str], interfaces: dict[str, str]) -> None:
    """Write ``interface:`` of hosts into an inventory's file, and keep the rest as it is.

    Raises InputError if that cannot be done safely.
    """
    from ..spec.inventory_editor import with_interface

    _rewrite(path, with_interface(read_text(path, "inventory"), str(path), interfaces))


def add_hosts(path: str | os.PathLike[str], entries: Mapping[str, str]) -> None:
    """Add hosts to an inventory's file, and keep the rest as it is.

    Raises InputError if that cannot be done safely.
    """
    _rewrite(path, _grown(path, entries))


def inventory_with(path: str | os.PathLike[str], entries: Mapping[str, str]) -> Inventory:
    """Return the inventory that :func:`add_hosts` would make. Raises InputError."""
    return _resolved(inventories.load(_grown(path, entries), str(path)), Path(path).parent)


@frozen
class ShareChange:
    """Another share of a project in the file ``path``: its text ``before``, and ``after``."""

    path: str
    before: str
    after: str

    @property
    def diff(self) -> str:
        """What changes, as ``diff -u`` shows it."""
        texts = (self.before.splitlines(keepends=True), self.after.splitlines(keepends=True))
        lines = difflib.unified_diff(*texts, self.path, self.path)
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)

    def write(self) -> None:
        """Write the text, unless the file has changed since. Raises InputError."""
        if read_text(self.path, "inventory") != self.before:
            raise InputError(f"{self.path} was changed meanwhile", "look at the change again")
        _rewrite(self.path, self.after)


def share_changed(
    path: str | os.PathLike[str], project: str, quota: int, limit: int | None
) -> ShareChange:
    """Return the change of an inventory's file that gives a project another quota and limit, in GPUs;
    None is no limit. Nothing is written.

    Raises InputError if that cannot be done safely.
    """
    from ..spec.inventory_editor import with_share

    before = read_text(path, "inventory")
    return ShareChange(str(path), before, with_share(before, str(path), project, quota, limit))


def _grown(path: str | os.PathLike[str], entries: Mapping[str, str]) -> str:
    from ..spec.inventory_editor import with_hosts

    return with_hosts(read_text(path, "inventory"), str(path), entries)


def _rewrite(path: str | os.PathLike[str], text: str) -> None:
    """Write a text with the ends of lines, the byte order mark and the mode that the file has."""
    target = Path(path).resolve()
    scratch = target.with_name(target.name + ".new")
    try:
        old = target.read_bytes()
        code = "utf-8-sig" if old.startswith(codecs.BOM_UTF8) else "utf-8"
        ends = old.count(b"\r\n")
        if old.count(b"\r") != ends or ends not in (0, old.count(b"\n")):
            raise InputError(
                f"{path} cannot be edited safely: its lines end in several ways",
                "save it with one kind of line ends, and try again",
            )
        scratch.write_text(text, code, newline="\r\n" if ends else "\n")
        scratch.chmod(target.stat().st_mode)
        scratch.replace(target)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
