"""Set ``interface:`` of hosts in the text of an inventory, and keep every other character.

An edit that takes more than a few characters is refused, with the line to add by hand.
"""

from __future__ import annotations

from dataclasses import replace

import yaml

from . import nodeset
from .errors import InputError
from .inventory import load


def with_interface(content: str, source: str, interfaces: dict[str, str]) -> str:
    """Return the text with ``interface:`` set for these hosts.

    Raises InputError where one entry covers hosts that need different interfaces, or where the text
    cannot be edited safely.
    """
    before = content
    for key, value in reversed(_entries(content)):
        names = [name for name in nodeset.expand(key.value) if name in interfaces]
        if not names:
            continue
        wanted = {interfaces[name] for name in names}
        if len(wanted) > 1 or len(names) < len(nodeset.expand(key.value)):
            raise InputError(
                f"{source}:{key.start_mark.line + 1}: {key.value} covers several hosts, but "
                f"only {nodeset.fold(names)} should get another interface",
                "; ".join(f"{name}: {{interface: {interfaces[name]}}}" for name in names),
            )
        content = _edited(content, key, value, wanted.pop())
    if not _as_meant(before, content, source, interfaces):
        raise InputError(
            f"{source} cannot be edited safely: these hosts have no entries of their own",
            "; ".join(f"{name}: {{interface: {value}}}" for name, value in interfaces.items()),
        )
    return content


def _entries(content: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Return the hosts and their settings, in the order of the text; none for a list of hosts."""
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []  # another tool's file
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "hosts" and isinstance(value, yaml.MappingNode):
            return list(value.value)
    return []


def _edited(content: str, key: yaml.ScalarNode, value: yaml.Node, interface: str) -> str:
    if isinstance(value, yaml.MappingNode):
        for name, old in value.value:
            if name.value == "interface":
                start, end = old.start_mark.index, old.end_mark.index
                return content[:start] + interface + content[end:]
        if value.flow_style:
            end = value.end_mark.index - 1  # the closing brace
            before = content[:end].rstrip(" ")
            comma = ", " if value.value and not before.endswith(",") else " " * bool(value.value)
            return before + comma + f"interface: {interface}" + content[end:]
        first = value.start_mark
        return (
            content[: first.index]
            + f"interface: {interface}\n"
            + " " * first.column
            + content[first.index :]
        )
    end = content.index(":", key.end_mark.index) + 1
    return content[:end] + f" {{ interface: {interface} }}" + content[end:]


def _as_meant(before: str, after: str, source: str, interfaces: dict[str, str]) -> bool:
    """Return whether the texts differ in these interfaces and in nothing else."""
    if before == after:
        return False
    old, new = load(before, source), load(after, source)
    meant = [
        replace(host, interface=interfaces.get(host.name, host.interface)) for host in old.hosts
    ]
    return meant == list(new.hosts) and replace(old, hosts=()) == replace(new, hosts=())
