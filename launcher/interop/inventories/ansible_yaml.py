"""Read Ansible inventories in YAML.

Source: the documentation of Ansible's inventory plugin ``ansible.builtin.yaml``.
"""

from __future__ import annotations

import yaml

from ...spec.yaml_document import YamlNode
from ..draft import quoted
from ..source import Text, entries, entries_or_none
from .ansible import Group, Groups
from .ansible_vars import Var
from .draft import InventoryDraft

_PARTS = ("hosts", "children", "vars")


def recognise(content: Text) -> bool:
    """Return whether every entry is a group, and some group has hosts, children or vars as a mapping."""
    groups = [entries_or_none(v) if not v.is_empty() else {} for v in content.keys.values()]
    return all(group is not None for group in groups) and any(
        not isinstance(group[part].yaml, yaml.SequenceNode)
        for group in groups
        for part in _PARTS
        if group and part in group
    )


def read(content: Text, draft: InventoryDraft) -> None:
    """Read every top-level entry as a group, with the groups nested in it."""
    groups = Groups(draft)
    for name, (line, value) in entries(content.yaml(), "a mapping of groups").items():
        _group(groups, name, line, value)
    groups.finish()


def _group(groups: Groups, name: str, line: int, node: YamlNode) -> None:
    group = groups.group(name, line)
    if node.is_empty():
        return
    for part, (at, value) in entries(node, "a group").items():
        if part not in _PARTS:
            groups.draft.note(at, f"{quoted(part)} of group {quoted(name)} is not carried over")
        elif not value.is_empty():
            _part(groups, group, part, at, value)


def _part(groups: Groups, group: Group, part: str, line: int, node: YamlNode) -> None:
    if part == "vars":
        group.variables.update(_variables(node))
        return
    if part == "hosts" and isinstance(node.yaml, yaml.ScalarNode):
        groups.host(
            node.yaml.value, line, group
        )  # a single host without a colon, which Ansible accepts
        return
    for name, (at, value) in entries(node, f"a mapping of {part}").items():
        if part == "children":
            group.children[name] = at
            _group(groups, name, at, value)
            continue
        for host in groups.host(name, at, group):
            if not value.is_empty():
                groups.variables[host].update(_variables(value))


def _variables(node: YamlNode) -> dict[str, Var]:
    found = {}
    for name, (line, value) in entries(node, "a mapping of variables").items():
        scalar = isinstance(value.yaml, yaml.ScalarNode) and not value.is_empty()
        vault = value.yaml.tag.startswith("!vault")
        found[name] = Var(str(value.yaml.value) if scalar else None, line, vault)
    return found
