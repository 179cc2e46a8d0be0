"""Resolve the settings of a host, and where each value comes from."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from ..interop import inventories as imports
from ..interop.draft import Draft
from ..interop.inventories.ssh_entries import parse
from ..spec import inventory as inventories
from ..spec.errors import DocumentError
from ..spec.files import read_text
from ..spec.frozen import frozen
from ..spec.inventory_writer import environment_text
from ..spec.model import Host, Inventory
from ..spec.provenance import Given, origins
from ..transport.ssh_lookup import SshLookup

#: Connection settings and their names in ssh_config(5); ssh(1) resolves them.
_SSH = {
    "address": ("hostname",),
    "user": ("user",),
    "port": ("port",),
    "proxy_jump": ("proxyjump",),
    "identity_file": ("identityfile",),
}
_FOUND_LATER = {
    "gpus": "detected by nvidia-smi on the host",
    "interface": "detected from the route to the head node",
    "identity_file": "ssh's default keys",
}
_BY_DEFAULT = {"address": "the host's name", "user": "your user here", "port": "ssh's default"}


@frozen
class Effective:
    """A setting of a host and where its value comes from; None: not set anywhere."""

    key: str
    value: str | None
    origin: str


def effective(path: str, inventory: Inventory, host: Host) -> list[Effective]:
    """Return all settings of a host. Raises DocumentError, or ConnectError for a bad ssh_config."""
    given = _given(path, inventory).get(host.name, {})
    ssh = asyncio.run(_connection(inventory, host.name))
    places = {key: _place(path, value) for key, value in given.items()}
    found = [_connected(inventory, host, key, ssh.get(key), places.get(key)) for key in _SSH]
    found = [_with_warning(one) for one in found]
    for key in ("gpus", "python", "workdir", "interface"):
        value = getattr(host, key)
        origin = places.get(key, "default")
        if value is None:
            origin = _FOUND_LATER[key]
        found.append(Effective(key, None if value is None else str(value), origin))
    if its := environment_text(host):
        found.append(Effective("environment", its, places.get("environment", path)))
    for kind in ("env", "labels"):
        for name, value in getattr(host, kind).items():
            key = f"{kind}.{name}"
            found.append(Effective(key, value, places.get(key, path)))
    return found


def _given(path: str, inventory: Inventory) -> Mapping[str, Mapping[str, Given]]:
    content = read_text(path, "inventory")
    try:
        inventories.load(content, path)
    except DocumentError:
        return imports.read(content, path)[1].hosts
    return origins(content, path)


def _place(path: str, given: Given) -> str:
    return f"{path}:{given.line}" + (f" ({given.via})" if given.via else "")


async def _connection(inventory: Inventory, name: str) -> dict[str, str]:
    found = await SshLookup(inventory).settings(name)
    values = {
        "address": found.host,
        "user": found.user,
        "port": str(found.port),
        "proxy_jump": ",".join(found.hops),
        "identity_file": next(iter(found.named_keys), ""),
    }
    return {key: value for key, value in values.items() if value}


def _connected(
    inventory: Inventory, host: Host, key: str, value: str | None, place: str | None
) -> Effective:
    """Return a connection setting; ``place`` is its line in the inventory, None if not there."""
    if place:
        return Effective(key, str(getattr(host, key)), place)
    if place := _in_ssh_config(inventory, host.name, key):
        return Effective(key, value, place)
    default = _BY_DEFAULT if value is not None else _FOUND_LATER
    return Effective(key, value, default.get(key, "not needed"))


def _with_warning(one: Effective) -> Effective:
    if one.key != "identity_file" or not one.value or "%" in one.value:
        return one
    if Path(one.value).expanduser().exists():
        return one
    return Effective(one.key, one.value, f"{one.origin}; the file does not exist")


def _in_ssh_config(inventory: Inventory, host: str, key: str) -> str | None:
    """Return the line of ssh_config that sets a value; ``Match`` and ``Include`` are not followed."""
    shown = inventory.ssh_config or "~/.ssh/config"
    file = Path(shown).expanduser()
    if not file.exists():
        return None
    try:
        entries = parse(read_text(file, "ssh_config"), Draft(str(file)))
    except DocumentError:
        return None
    for keyword, _, line in entries.matching(host):
        if keyword in _SSH[key]:
            return f"{shown}:{line}"
    return None
