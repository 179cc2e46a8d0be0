"""Read an inventory: the hosts, their settings and groups, and which of them ``--hosts`` selects."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import yaml

from . import gpu_models, gpus, nodeset
from .data import byte_count
from .durations import seconds
from .environments import python_path
from .errors import InputError, suggestion
from .host_environment import SCHEMA as ENVIRONMENT_SCHEMA
from .host_environment import read_host_environment
from .model import Host, Inventory, Project
from .ssh_config import TRANSPORTS
from .yaml_document import (
    SCALAR,
    TEXT,
    TEXT_MAP,
    TEXTS,
    Key,
    YamlNode,
    checked,
    parse,
    read,
    text,
    text_map,
    texts,
    truth,
    whole,
    whole_number,
)
from .yaml_document import schema as mapping_schema

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def variables(node: YamlNode) -> dict[str, str]:
    """Return environment variables. Raises DocumentError for a name that no shell accepts."""
    for name, key_node, _ in node.items("a mapping of names to texts"):
        if not VARIABLE.match(name):
            raise key_node.error(f'"{name}" cannot be the name of an environment variable')
    return text_map(node)


def _setting(node: YamlNode) -> str:
    """Return a text that is safe in an ssh_config(5). Raises DocumentError."""
    value = text(node)
    if not value or '"' in value or not value.isprintable():
        raise node.error(
            f"{value!r} is not possible in an ssh_config", "quotes and line breaks are not allowed"
        )
    return value


def _transport(node: YamlNode) -> str:
    value = text(node)
    if value not in TRANSPORTS:
        raise node.error(
            f'transport is "{value}"', suggestion(value, TRANSPORTS) or "asyncssh or openssh"
        )
    return value


def gpu_ids(node: YamlNode) -> tuple[str, ...]:
    """Return names of GPUs: a list, or a text such as ``0,2-3``. Raises DocumentError."""
    try:
        return gpus.read_ids(",".join(texts(node)))
    except ValueError as error:
        raise node.error(str(error)) from None


def gpu_count(least: int, most: int | None = None) -> Callable[[YamlNode], int | str]:
    """Return a reader of a number of GPUs, or of a model and a number: ``A100:4``."""
    number = whole_number(least, most)

    def reader(node: YamlNode) -> int | str:
        written = str(node.yaml.value) if isinstance(node.yaml, yaml.ScalarNode) else ""
        if not re.search("[A-Za-z].*[0-9]|:", written):
            return number(node)
        try:
            count = gpu_models.read_count(written)[1]
        except ValueError as error:
            raise node.error(str(error)) from None
        if count < least or (most is not None and count > most):
            raise node.error(f"{written}: {least} to {most} GPUs are possible")
        return written

    return reader


def _gpus(node: YamlNode) -> int | str | tuple[str, ...]:
    """Return a number of GPUs, a model with one, or the names of some."""
    if not isinstance(node.yaml, yaml.SequenceNode):
        return gpu_count(0, 64)(node)
    return gpu_ids(node) if node.elements() else 0


#: The schema of a model of GPUs with a number.
MODEL_COUNT = {"type": "string", "pattern": "^.+:[0-9]+$"}


def _byte_count(node: YamlNode) -> int:
    try:
        return byte_count(text(node))
    except ValueError as error:
        raise node.error(str(error)) from None


def _absolute(node: YamlNode) -> str:
    path = text(node)
    if not path.startswith("/") or ".." in path.split("/") or ":" in path:
        raise node.error(f"{path!r} is no absolute path", "name a folder as /scratch/sets")
    return path


def _off(node: YamlNode) -> str | None:
    """Return why a host is off; None for ``off: false``."""
    if isinstance(node.yaml, yaml.ScalarNode) and node.yaml.tag == "tag:yaml.org,2002:bool":
        return "no reason given" if truth(node) else None
    return text(node)


HOST_KEYS: Mapping[str, Key] = {
    "address": Key(
        _setting, TEXT, "Name or IP to connect to; a nodeset (10.0.0.[1-8]) for several hosts"
    ),
    "user": Key(_setting, TEXT, "User to log in as"),
    "port": Key(whole_number(1, 65535), whole(1, 65535), "Port of the SSH server"),
    "proxy_jump": Key(_setting, TEXT, "Jump host: a name of this inventory or [user@]host"),
    "identity_file": Key(_setting, TEXT, "Private key to log in with"),
    "transport": Key(
        _transport,
        {"enum": list(TRANSPORTS)},
        "asyncssh, or openssh for second factors, FIDO and Kerberos (default: whichever gets in)",
    ),
    "gpus": Key(
        _gpus,
        {"oneOf": [whole(0, 64), MODEL_COUNT, {"type": "array", "items": SCALAR}]},
        "Number of GPUs to use, also of a model (A100:4), or which: [2, 3], UUIDs (default: all)",
    ),
    "python": Key(
        checked(python_path),
        TEXT,
        "Python on the host, 3.8 or newer: a name on PATH, a path, venv:DIR or conda:NAME",
    ),
    "workdir": Key(text, TEXT, "Folder on the host where launcher keeps its files"),
    "interface": Key(text, TEXT, "Network interface to the other hosts (default: detected)"),
    "shares_machine": Key(
        truth,
        {"type": "boolean"},
        "Several hosts of this inventory are one machine, on purpose; each needs a workdir of its own",
    ),
    "data_limit": Key(
        _byte_count,
        SCALAR,
        "Most that data sets may take on the host, as 500GB: those unused for longest are deleted",
    ),
    "data_folder": Key(
        _absolute,
        TEXT,
        "Folder on the host in which its users share data sets, as /scratch/sets; root makes it",
    ),
    "own_hosts": Key(
        truth,
        {"type": "boolean"},
        "Give the processes of runs an /etc/hosts of their own, with the real addresses of all hosts",
    ),
    "off": Key(_off, TEXT, "Why nothing may use the host for now, as `power supply, back 3 Dec`"),
    "prepare": Key(
        text,
        TEXT,
        "Lines of bash that run before each process on this host, as `module use /opt/mod`",
    ),
    "environment": Key(
        read_host_environment,
        ENVIRONMENT_SCHEMA,
        "Environment of jobs that name none, or that name this one: {conda: NAME} or {venv: DIR}",
    ),
    "env": Key(variables, TEXT_MAP, "Environment variables of every process on this host"),
    "labels": Key(text_map, TEXT_MAP, "Labels to select hosts by: --hosts rack=a"),
}

#: What ssh_config, Ansible and others call these keys.
_ELSEWHERE = {
    **dict.fromkeys(("host", "hostname", "HostName", "ip", "ansible_host", "addr"), "address"),
    **dict.fromkeys(("username", "User", "ansible_user", "login"), "user"),
    **dict.fromkeys(("key", "ssh_key", "private_key", "IdentityFile"), "identity_file"),
    **dict.fromkeys(("jump", "proxy", "ProxyJump", "bastion"), "proxy_jump"),
    **dict.fromkeys(("gpu", "num_gpus", "slots"), "gpus"),
    **dict.fromkeys(("Port", "ansible_port"), "port"),
}


def _host_values(node: YamlNode) -> dict[str, Any]:
    return {} if node.is_empty() else read(node, HOST_KEYS, "a host", _ELSEWHERE)


def _defaults(node: YamlNode) -> dict[str, Any]:
    return read(node, HOST_KEYS, "defaults", _ELSEWHERE)


def _min_runtime(node: YamlNode) -> float:
    """Return a time in seconds. Raises DocumentError."""
    try:
        return seconds(text(node))
    except ValueError as error:
        raise node.error(f"min_runtime: {error}") from None


_PROJECT_KEYS: Mapping[str, Key] = {
    "quota": Key(whole_number(0, 1 << 16), whole(0, 1 << 16), "GPUs that are its own"),
    "limit": Key(
        whole_number(0, 1 << 16),
        whole(0, 1 << 16),
        "The most GPUs that it may have, borrowed ones included (default: all that are free)",
    ),
    "users": Key(texts, TEXTS, "Users of the hosts who may use it"),
    "min_runtime": Key(
        _min_runtime,
        SCALAR,
        "How long its preemptible runs keep GPUs before they have to give them back (default: 5m)",
    ),
}
#: Names of projects are parts of names of sockets. Also in launcher.agent.host.projects.
_LONGEST_PROJECT = 20


def _projects(node: YamlNode) -> tuple[Project, ...]:
    """Return the projects of an inventory. Raises DocumentError."""
    found = []
    for name, key_node, value in node.items("a mapping of projects"):
        if not NAME.match(name) or len(name) > _LONGEST_PROJECT or name == "none":
            raise key_node.error(
                f"{name!r} cannot be the name of a project",
                f"at most {_LONGEST_PROJECT} letters, digits, '.', '_' and '-'",
            )
        values = read(value, _PROJECT_KEYS, f"project {name}")
        lines = {key: its for key, _, its in value.items("a mapping")}
        for key, example in (("quota", "quota: 2"), ("users", "users: [ann, bob]")):
            if key not in values or values[key] == ():
                raise key_node.error(f"project {name} has no {key}", example)
        if values.get("limit", values["quota"]) < values["quota"]:
            raise lines["limit"].error(
                f"project {name}: limit {values['limit']} is less than its quota of "
                f"{values['quota']}",
                "limit is the most it may have, borrowed GPUs included; leave it out for no limit",
            )
        if not all(one and one.isprintable() and " " not in one for one in values["users"]):
            raise lines["users"].error(
                f"project {name}: a user's name is empty or has a space", "users: [ann, bob]"
            )
        found.append(Project(name, **values))
    return tuple(found)


_HOST_SCHEMA = {"oneOf": [mapping_schema(HOST_KEYS), {"type": "null"}]}
_MEMBERS = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_KEYS: Mapping[str, Key] = {
    "hosts": Key(
        lambda node: node,
        {
            "oneOf": [
                {"type": "object", "additionalProperties": _HOST_SCHEMA},
                {"type": "array", "items": SCALAR},
            ]
        },
        "Nodesets (gpu[01-08]) and their settings, or a list of nodesets",
    ),
    "defaults": Key(_defaults, mapping_schema(HOST_KEYS), "Settings of all hosts"),
    "groups": Key(
        lambda node: node,
        {"type": "object", "additionalProperties": _MEMBERS},
        "Named sets of hosts, for --hosts",
    ),
    "projects": Key(
        _projects,
        {
            "type": "object",
            "additionalProperties": mapping_schema(_PROJECT_KEYS, required=("quota", "users")),
        },
        "Shares of the GPUs by project, for --project",
    ),
    "ssh_config": Key(text, TEXT, "File to read instead of ~/.ssh/config"),
    "sandbox": Key(truth, {"type": "boolean"}, "The hosts are those of `launcher sandbox`"),
}


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of an inventory, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "launcher inventory",
        **mapping_schema(_KEYS, required=("hosts",)),
    }


def load(content: str, source: str) -> Inventory:
    """Return the inventory that a YAML text describes. Raises DocumentError."""
    root = parse(content, source)
    values = read(root, _KEYS, "the inventory")
    if "hosts" not in values:
        raise root.error('the inventory has no "hosts"', "hosts: {gpu[1-2]: {gpus: 8}}")
    hosts = _hosts(values["hosts"], values.get("defaults", {}))
    names = tuple(host.name for host in hosts)
    groups = _groups(values["groups"], names) if "groups" in values else {}
    return Inventory(
        hosts=hosts,
        groups=groups,
        ssh_config=values.get("ssh_config"),
        sandbox=values.get("sandbox", False),
        source=source,
        projects=values.get("projects", ()),
    )


def _hosts(node: YamlNode, defaults: dict[str, Any]) -> tuple[Host, ...]:
    if node.is_empty():
        raise node.error("there are no hosts", "hosts: {gpu[1-2]: {gpus: 8}}")
    found: dict[str, int] = {}
    hosts: list[Host] = []
    for names, key_node, settings in _entries(node):
        for host in _entry(key_node, names, settings, defaults):
            if host.name in found:
                raise key_node.error(
                    f'host "{host.name}" appears twice, first in line {found[host.name]}'
                )
            found[host.name] = key_node.line
            hosts.append(host)
    if not hosts:
        raise node.error("there are no hosts", "hosts: {gpu[1-2]: {gpus: 8}}")
    return tuple(hosts)


def _entries(node: YamlNode) -> list[tuple[tuple[str, ...], YamlNode, dict[str, Any]]]:
    if isinstance(node.yaml, yaml.SequenceNode):
        return [(_expand(element), element, {}) for element in node.elements()]
    items = node.items("a mapping or a list of hosts")
    return [(_expand(key_node), key_node, _host_values(value)) for _, key_node, value in items]


def _expand(key_node: YamlNode) -> tuple[str, ...]:
    try:
        names = nodeset.expand(text(key_node))
    except ValueError as error:
        raise key_node.error(str(error), "a nodeset looks like gpu[01-08,12]") from None
    if not names:
        raise key_node.error("an empty nodeset", "a nodeset looks like gpu[01-08,12]")
    for name in names:
        if not NAME.match(name):
            raise key_node.error(
                f"{name!r} cannot be the name of a host",
                "use letters, digits, '.', '_' and '-'; user, port and address have their own keys",
            )
    return names


def _entry(
    key_node: YamlNode, names: tuple[str, ...], settings: dict[str, Any], defaults: dict[str, Any]
) -> list[Host]:
    values = {**defaults, **settings}
    for merged in ("env", "labels"):
        if merged in values:
            values[merged] = {**defaults.get(merged, {}), **settings.get(merged, {})}
    if isinstance(values.get("gpus"), tuple):
        values |= {"gpu_ids": values["gpus"], "gpus": len(values["gpus"])}
    elif isinstance(values.get("gpus"), str):
        values["gpu_model"], values["gpus"] = gpu_models.read_count(values["gpus"])
    values |= values.pop("environment", {})
    addresses = _addresses(key_node, names, values.pop("address", None))
    return [
        Host(name=name, address=address, **values)
        for name, address in zip(names, addresses, strict=True)
    ]


def _addresses(key_node: YamlNode, names: tuple[str, ...], address: str | None) -> list[str | None]:
    if address is None or not set("[,") & set(address):
        if address is not None and len(names) > 1:
            raise key_node.error(
                f"one address for {len(names)} hosts",
                "write a nodeset with an address for each: 10.0.0.[1-8]",
            )
        return [address] * len(names)
    try:
        found = nodeset.expand(address)
    except ValueError as error:
        raise key_node.error(str(error)) from None
    if len(found) != len(names):
        raise key_node.error(f"{len(found)} addresses for {len(names)} hosts")
    return list(found)


def _groups(node: YamlNode, names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    groups: dict[str, tuple[str, ...]] = {}
    for group, _, value in node.items("a mapping of groups"):
        members: list[str] = []
        for element in _members(value):
            other = text(element).lstrip("@")
            if other in groups:
                members += groups[other]
                continue
            for name in _expand(element):
                if name not in names:
                    raise element.error(
                        f'group "{group}" names an unknown host "{name}"', suggestion(name, names)
                    )
                members.append(name)
        groups[group] = tuple(dict.fromkeys(members))
    return groups


def _members(value: YamlNode) -> list[YamlNode]:
    return [value] if isinstance(value.yaml, yaml.ScalarNode) else value.elements()


def select(inventory: Inventory, wanted: str | None) -> tuple[Host, ...]:
    """Return the hosts that ``--hosts`` selects, in the order of the inventory; all without it.

    A term is a name, a nodeset, a group (``a100`` or ``@a100``) or a label (``rack=a``). A host that is
    off is left out. Raises InputError, also for a host that is off and named.
    """
    chosen = {host.name for host in inventory.hosts} if wanted is None else set[str]()
    for term in nodeset.split_terms(wanted or ""):
        chosen |= _term(inventory, term)
    if not chosen:
        raise InputError(f'--hosts: "{wanted}" selects no host', _known(inventory))
    found = tuple(host for host in inventory.on if host.name in chosen)
    if not found:
        off = "; ".join(f"{name}: {why}" for name, why in inventory.off.items() if name in chosen)
        raise InputError(f"all of these hosts are off ({off})", _turn_on(inventory, "them"))
    return found


def _turn_on(inventory: Inventory, hosts: str) -> str:
    return f"to use {hosts} again, remove off: in {inventory.source}"


def narrowed(inventory: Inventory, wanted: str | None) -> Inventory:
    """Return the inventory with only the hosts that ``wanted`` selects; None takes all of it, also hosts
    that are off. Raises InputError."""
    if wanted is None:
        return inventory
    hosts = select(inventory, wanted)
    left = {host.name for host in hosts}
    groups = {
        name: tuple(member for member in members if member in left)
        for name, members in inventory.groups.items()
    }
    return replace(inventory, hosts=hosts, groups={k: v for k, v in groups.items() if v})


def _term(inventory: Inventory, term: str) -> set[str]:
    if "=" in term:
        name, _, value = term.partition("=")
        found = {host.name for host in inventory.hosts if host.labels.get(name) == value}
        if not found:
            raise InputError(f'--hosts: no host has the label "{term}"', _labels(inventory))
        return found
    group = term.removeprefix("@")
    if group in inventory.groups:
        return set(inventory.groups[group])
    names = [host.name for host in inventory.hosts]
    try:
        wanted = nodeset.expand(term)
    except ValueError as error:
        raise InputError(f"--hosts: {error}", "a nodeset looks like gpu[01-08,12]") from None
    for name in wanted:
        if name not in names:
            hint = suggestion(name, [*names, *inventory.groups]) or _known(inventory)
            raise InputError(f'--hosts: no host "{name}" in {inventory.source}', hint)
        if name in inventory.off:
            raise InputError(
                f"--hosts: {name} is off: {inventory.off[name]}", _turn_on(inventory, name)
            )
    return set(wanted)


def _known(inventory: Inventory) -> str:
    known = f"hosts: {nodeset.fold(host.name for host in inventory.hosts)}"
    return known + (f"; groups: {', '.join(inventory.groups)}" if inventory.groups else "")


def _labels(inventory: Inventory) -> str:
    labels = sorted({f"{k}={v}" for host in inventory.hosts for k, v in host.labels.items()})
    return f"labels: {', '.join(labels)}" if labels else "no host in the inventory has labels"
