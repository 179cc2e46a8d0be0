"""Write an inventory as YAML that reads back the same, with nodesets folded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import groupby
from typing import Any

from . import nodeset
from .environments import Environment
from .model import MIN_RUNTIME, Host, Inventory, Project

#: A text that needs no quotes in YAML: it starts with none of YAML's signs, and is not null.
_PLAIN = re.compile(r"(?!(?i:null|~)\Z)[A-Za-z0-9_./~][A-Za-z0-9_./@~+-]*\Z")
_NODESET = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.,\[\]-]*\Z")
_DEFAULTS = {field.name: field.default for field in fields(Host)}
_SHARED = (
    "user",
    "port",
    "proxy_jump",
    "identity_file",
    "transport",
    "gpus",
    "python",
    "workdir",
    "interface",
)
_WIDTH = 88


def inventory_text(inventory: Inventory, head: Iterable[str] = ()) -> str:
    """Return the YAML text; ``head`` and the notes become comments at its top."""
    lines = [comment(line) for line in head]
    if inventory.notes:
        lines += [
            "#",
            "# Left out, or changed:",
            *(comment(f"  {note}") for note in inventory.notes),
        ]
    settings = {host.name: _settings(host) for host in inventory.hosts}
    shared = _shared(list(settings.values()))
    lines += [""] if lines else []
    if inventory.ssh_config:
        lines += [f"ssh_config: {scalar(inventory.ssh_config)}"]
    if shared:
        lines += ["defaults:", *(f"  {key}: {_value(value)}" for key, value in shared.items())]
    lines.append("hosts:")
    for name, one in _folded(inventory.hosts, settings):
        lines += _host(name, {k: v for k, v in one.items() if k not in shared})
    if inventory.groups:
        lines.append("groups:")
        for group, members in inventory.groups.items():
            lines.append(f"  {scalar(group)}: {_members(members)}")
    if inventory.projects:
        lines.append("projects:")
        lines += [f"  {scalar(one.name)}: {{{_project(one)}}}" for one in inventory.projects]
    return "\n".join(lines) + "\n"


def _project(project: Project) -> str:
    parts = [f"quota: {project.quota}"]
    parts += [] if project.limit is None else [f"limit: {project.limit}"]
    if project.min_runtime != MIN_RUNTIME:
        parts.append(f"min_runtime: {project.min_runtime:g}s")
    return ", ".join([*parts, f"users: [{', '.join(map(scalar, project.users))}]"])


def comment(text: str) -> str:
    """Return a text as a comment of YAML or sh; no character in it can end the comment."""
    return ("# " + "".join(c if c.isprintable() else "?" for c in text)).rstrip()


def scalar(value: object) -> str:
    """Return a text or a number, in quotes where YAML would read something else."""
    text = str(value)
    return text if _PLAIN.match(text) else quoted(text)


def quoted(text: str) -> str:
    """Return a text in double quotes, with YAML's escapes for unprintable characters."""
    signs = ("\\" + c if c in '"\\' else c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
    return f'"{"".join(signs)}"'


def _settings(host: Host) -> dict[str, Any]:
    """Return what the inventory sets for a host, besides its name."""
    found: dict[str, Any] = {}
    for name, default in _DEFAULTS.items():
        value = getattr(host, name)
        is_own = name in ("name", "gpu_ids", "gpu_model", "environment", "modules")
        if not is_own and value != default and value != {}:
            found[name] = value
    if environment := _environment(host):
        found["environment"] = environment
    if host.gpu_ids:
        found["gpus"] = host.gpu_ids
    elif host.gpu_model:
        found["gpus"] = f"{host.gpu_model}:{host.gpus}"
    return found


def environment_text(host: Host) -> str | None:
    """Return the ``environment:`` of a host as YAML in one line; None for none."""
    found = _environment(host)
    return _value(found) if found else None


def _environment(host: Host) -> dict[str, Any]:
    """Return what ``environment:`` says of a host."""
    one = host.environment or Environment()
    given = {"conda": one.conda, "venv": one.venv, "name": one.name, "modules": host.modules}
    return {name: value for name, value in given.items() if value}


def _shared(hosts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that all hosts share, if there are several hosts."""
    first = hosts[0]
    return {
        key: first[key]
        for key in _SHARED
        if len(hosts) > 1 and key in first and all(one.get(key) == first[key] for one in hosts)
    }


def _folded(
    hosts: Sequence[Host], settings: Mapping[str, dict[str, Any]]
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Fold neighbours that differ only in a number into one nodeset, if that means the same."""

    def kind(host: Host) -> tuple[str, str]:
        others = {key: value for key, value in settings[host.name].items() if key != "address"}
        return _stem(host.name), repr((host.address is None, others))

    for _, run in groupby(hosts, kind):
        several = list(run)
        names = [host.name for host in several]
        addresses = [host.address for host in several if host.address is not None]
        one, address = folded(names), folded(addresses) if addresses else ""
        if len(several) > 1 and one and address is not None:
            merged = dict(settings[names[0]])
            if addresses:
                merged["address"] = address
            yield one, merged
        else:
            yield from ((name, settings[name]) for name in names)


def folded(names: Sequence[str]) -> str | None:
    """Return the one-term nodeset for these names in this order, or None."""
    if len(set(names)) != len(names) or not all(map(_NODESET.match, names)):
        return None
    text = nodeset.fold(names)
    # YAML allows keys of 1,024 characters, but nobody can read those.
    if (
        len(text) > 253
        or len(nodeset.split_terms(text)) != 1
        or nodeset.expand(text) != tuple(names)
    ):
        return None
    return text


def _host(name: str, settings: Mapping[str, Any]) -> list[str]:
    key = name if _NODESET.match(name) and not re.match(r"(?i)null\Z", name) else scalar(name)
    if not settings:
        return [f"  {key}:"]
    parts = [f"{setting}: {_value(value)}" for setting, value in settings.items()]
    line = f"  {key}: {{ {', '.join(parts)} }}"
    return [line] if len(line) <= _WIDTH else [f"  {key}:", *(f"    {part}" for part in parts)]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{scalar(k)}: {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, tuple):
        return f"[{', '.join(map(scalar, value))}]"
    return scalar(value)


def _members(members: Sequence[str]) -> str:
    terms: list[str] = []
    for _, run in groupby(members, _stem):
        names = list(run)
        one = folded(names)
        terms += [one] if one else names
    return scalar(terms[0]) if len(terms) == 1 else f"[{', '.join(map(scalar, terms))}]"


def _stem(name: str) -> str:
    return re.sub("[0-9]+", "#", name)
