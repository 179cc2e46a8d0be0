"""Write an inventory in other tools' formats: hostfile, ssh_config and Ansible.

Each function returns the text, and a note for everything that the format cannot hold.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ...spec.addresses import endpoint
from ...spec.errors import InputError, suggestion
from ...spec.inventory_writer import comment, environment_text, quoted
from ...spec.model import Host, Inventory
from ...spec.ssh_config import ssh_config as entry

_HEAD = "written by: launcher inventory export"
_ANSIBLES = ("all", "ungrouped")
#: What no other tool has a word for.
_NOBODYS = ("gpu_model", "prepare", "off", "data_limit", "data_folder")
_LAUNCHERS_OWN = (
    "python",
    "workdir",
    "interface",
    "shares_machine",
    "own_hosts",
    "env",
    "labels",
    "environment",
    "modules",
    *_NOBODYS,
)


def hostfile(inventory: Inventory) -> tuple[str, list[str]]:
    """Return lines ``name slots=gpus``, for DeepSpeed, Open MPI and Horovod."""
    notes = _setting_notes(
        inventory, "address", "user", "port", "proxy_jump", "identity_file", *_LAUNCHERS_OWN
    )
    if any(host.gpus is None for host in inventory.hosts):
        notes.append("hosts without gpus have no slots=, which DeepSpeed needs on every line")
    if any(host.address or host.user or host.port for host in inventory.hosts):
        notes.append(
            "connection settings: export them with launcher inventory export --to ssh_config"
        )
    lines = [
        host.name if host.gpus is None else f"{host.name} slots={host.gpus}"
        for host in inventory.hosts
    ]
    return "\n".join([comment(_HEAD), *lines]) + "\n", notes + _group_notes(inventory)


def ssh_config(inventory: Inventory) -> tuple[str, list[str]]:
    """Return an entry for every host, to be included in ``~/.ssh/config``."""
    entries = [entry(host) or f"Host {host.name}\n" for host in inventory.hosts]
    notes = _setting_notes(inventory, "gpus", *_LAUNCHERS_OWN) + _group_notes(inventory)
    if inventory.ssh_config:
        notes.append(f"settings that only {inventory.ssh_config} has are not carried over")
    return "\n".join([comment(_HEAD) + "\n", *entries]), notes


def ansible(inventory: Inventory) -> tuple[str, list[str]]:
    """Return Ansible's YAML; settings that Ansible lacks become variables ``launcher_...``."""
    lines = [comment(_HEAD), "all:", "  hosts:"]
    for host in inventory.hosts:
        lines.append(f"    {_key(host.name)}:")
        lines += [
            f"      {_key(key)}: {_text(v)}" for key, v in _variables(inventory, host).items()
        ]
    # Ansible defines groups of these names itself.
    groups = {name: inventory.groups[name] for name in inventory.groups if name not in _ANSIBLES}
    if groups:
        lines.append("  children:")
    for group, members in groups.items():
        lines += [f"    {_key(group)}:", "      hosts:"]
        lines += [f"        {_key(name)}:" for name in members]
    notes = ["ssh_config is not carried over"] if inventory.ssh_config else []
    lost = [name for name in inventory.groups if name not in groups]
    notes += [f"group {name} is not carried over: Ansible defines its own" for name in lost]
    notes += _setting_notes(inventory, *_NOBODYS)
    return "\n".join(lines) + "\n", notes


def _text(value: Any) -> str:
    return str(value) if isinstance(value, int) else quoted(value)


def _key(name: str) -> str:
    """Return a name as a YAML key, quoted where YAML 1.1 would read a number, a truth or null."""
    plain = re.match(r"(?!(?i:null|y|n|yes|no|on|off|true|false)\Z)[A-Za-z_][\w.-]*\Z", name, re.A)
    return name if plain else quoted(name)


def _variables(inventory: Inventory, host: Host) -> Mapping[str, Any]:
    jump = _through(inventory, host.proxy_jump) if host.proxy_jump else None
    found = {
        "ansible_host": host.address,
        "ansible_user": host.user,
        "ansible_port": host.port,
        "ansible_ssh_private_key_file": host.identity_file,
        "ansible_ssh_common_args": f"-o ProxyJump={shlex.quote(jump)}" if jump else None,
        "ansible_python_interpreter": host.python if host.python != Host.python else None,
        "launcher_proxy_jump": host.proxy_jump if jump != host.proxy_jump else None,
        "launcher_gpus": host.gpus,
        "launcher_workdir": host.workdir if host.workdir != Host.workdir else None,
        "launcher_interface": host.interface,
        "launcher_environment": environment_text(host),
        **{f"launcher_env_{name}": value for name, value in host.env.items()},
        **{f"launcher_label_{name}": value for name, value in host.labels.items()},
    }
    return {key: value for key, value in found.items() if value is not None}


def _through(inventory: Inventory, jump: str) -> str:
    """Return a jump host as ssh knows it: ssh does not know the inventory's names."""
    try:
        host = inventory.host(jump)
    except KeyError:
        return jump
    user = f"{host.user}@" if host.user else ""
    address = host.address or host.name
    return user + (endpoint(address, host.port) if host.port else address)


def _setting_notes(inventory: Inventory, *keys: str) -> list[str]:
    """Return a note for every setting that some host has and the format cannot hold."""
    notes = []
    for key in keys:
        unset: tuple[Any, ...] = (None, {}, getattr(Host, key, None))
        count = sum(getattr(host, key) not in unset for host in inventory.hosts)
        if count:
            hosts = "1 host" if count == 1 else f"{count} hosts"
            notes.append(f"{key} of {hosts} is not carried over")
    return notes


def _group_notes(inventory: Inventory) -> list[str]:
    names = ", ".join(inventory.groups)
    return [f"groups are not carried over: {names}"] if names else []


FORMATS: Mapping[str, Callable[[Inventory], tuple[str, list[str]]]] = {
    "hostfile": hostfile,
    "ssh_config": ssh_config,
    "ansible": ansible,
}


def export(inventory: Inventory, to: str) -> tuple[str, list[str]]:
    """Return the text in format ``to`` and its notes. Raises InputError for an unknown format."""
    if to not in FORMATS:
        raise InputError(
            f'unknown format "{to}"',
            suggestion(to, tuple(FORMATS)) or f"known: {', '.join(FORMATS)}",
        )
    return FORMATS[to](inventory)
