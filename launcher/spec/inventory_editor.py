"""Change the text of an inventory: add hosts or their ``interface:``, set the share of a project. Every
other character stays.

An edit that cannot be made safely is refused, with what to add by hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import yaml

from . import nodeset
from .errors import DocumentError, InputError, suggestion
from .inventory import load
from .model import Inventory


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


def with_hosts(content: str, source: str, entries: Mapping[str, str]) -> str:
    """Return the text with hosts added below the others; ``entries`` are their lines, by name.

    Raises InputError where the text cannot be edited safely.
    """
    known = _entries(content)
    if known:
        column = known[0][0].start_mark.column
        lines = content.splitlines(keepends=True)
        end = max(_last_line(node) for pair in known for node in pair) + 1
        added = [" " * column + line for text in entries.values() for line in text.splitlines()]
        before = "".join(lines[:end]).removesuffix("\n")
        text = "\n".join([before, *added, ""]) + "".join(lines[end:])
        if _has_grown(content, text, source, tuple(entries)):
            return text
    raise InputError(
        f"{source} cannot be edited safely: its hosts are no list of one below the other",
        f"add by hand: {'; '.join(' '.join(text.split()) for text in entries.values())}",
    )


def with_share(content: str, source: str, project: str, quota: int, limit: int | None) -> str:
    """Return the text with another quota and limit of a project, in GPUs; without a limit it may borrow
    all that are free.

    Raises InputError where there is no such project, or the text cannot be edited safely.
    """
    if limit is not None and limit < quota:
        raise InputError(
            f"a limit of {limit} is less than a quota of {quota}",
            "the limit is the most it may have, borrowed GPUs included",
        )
    old = load(content, source)
    if all(one.name != project for one in old.projects):
        names = [one.name for one in old.projects]
        raise InputError(
            f"project {project}: there is no such project in {source}",
            suggestion(project, names) or f"projects: {', '.join(names) or 'none'}",
        )
    text = content
    for key, value in _members(content, "projects"):
        if key.value == project and isinstance(value, yaml.MappingNode):
            text = _with_keys(content, value, {"quota": quota, "limit": limit})
    if not _is_shared(old, text, source, project, quota, limit):
        what = f"quota: {quota}" + ("" if limit is None else f", limit: {limit}")
        raise InputError(
            f"{source} cannot be edited safely",
            f"change project {project} there by hand: {what}",
        )
    return text


def _with_keys(content: str, node: yaml.MappingNode, values: Mapping[str, int | None]) -> str:
    """Return the text with these values in a mapping that has the first key; None takes a key out."""
    first = next(iter(values))
    known = {key.value: (key, value) for key, value in node.value}
    anchor = known[first][1] if first in known else node
    edits = []
    for name, value in values.items():
        if name in known:
            key, old = known[name]
            if value is None:
                edits.append((*_span(content, node, key, old), ""))
            else:
                edits.append((old.start_mark.index, old.end_mark.index, str(value)))
        elif value is not None:
            end, before = anchor.end_mark.index, ", "
            if not node.flow_style:
                end = (content + "\n").index("\n", end)
                before = "\n" + " " * node.value[0][0].start_mark.column
            edits.append((end, end, f"{before}{name}: {value}"))
    for start, end, new in sorted(edits, reverse=True):
        content = content[:start] + new + content[end:]
    return content


def _span(
    content: str, node: yaml.MappingNode, key: yaml.Node, value: yaml.Node
) -> tuple[int, int]:
    """Return where a key with its value begins and ends: a line of its own, or with a comma."""
    start, end = key.start_mark.index, value.end_mark.index
    if not node.flow_style:
        return content.rfind("\n", 0, start) + 1, (content + "\n").index("\n", end) + 1
    if behind := re.compile(r"[ \t]*,[ \t]*").match(content, end):
        return start, behind.end()
    comma = re.search(r",[ \t]*\Z", content[:start])
    return (comma.start() if comma else start), end


def _is_shared(
    old: Inventory, after: str, source: str, project: str, quota: int, limit: int | None
) -> bool:
    """Return whether a text has this share of a project, and all else of an inventory."""
    try:
        new = load(after, source)
    except DocumentError:
        return False
    meant = [
        replace(one, quota=quota, limit=limit) if one.name == project else one
        for one in old.projects
    ]
    return new == replace(old, projects=tuple(meant))


def _last_line(node: yaml.Node) -> int:
    """Return the last line of a node, from 0; what follows it are blank lines and comments."""
    if not isinstance(node, yaml.CollectionNode) or node.flow_style:
        return int(node.end_mark.line) - (node.end_mark.column == 0 and node.end_mark.line > 0)
    is_list = isinstance(node, yaml.SequenceNode)
    parts = node.value if is_list else [part for pair in node.value for part in pair]
    return max(map(_last_line, parts))


def _has_grown(before: str, after: str, source: str, names: tuple[str, ...]) -> bool:
    """Return whether the texts differ in these hosts, and in nothing else."""
    try:
        old, new = load(before, source), load(after, source)
    except DocumentError:
        return False
    count = len(old.hosts)
    return (
        new.hosts[:count] == old.hosts
        and tuple(host.name for host in new.hosts[count:]) == names
        and replace(old, hosts=()) == replace(new, hosts=())
    )


def _entries(content: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Return the hosts and their settings, in the order of the text; none for a list of hosts."""
    return _members(content, "hosts")


def _members(content: str, name: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    """Return what the mapping of this name has, in the order of the text."""
    try:
        root = yaml.compose(content, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return []  # another tool's file
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == name and isinstance(value, yaml.MappingNode):
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
