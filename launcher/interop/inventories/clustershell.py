"""Read ClusterShell's groups: flat files (``gpu: gpu[01-08]``) and YAML with several sources.

Source: ClusterShell, "Node groups configuration", file-based group sources.
"""

from __future__ import annotations

import re

import yaml

from ...spec.yaml_document import YamlNode, texts
from ..draft import quoted
from ..source import Text, entries, entries_or_none
from .draft import InventoryDraft
from .groupsets import renamed, resolve

_LINE = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*):\s+(\S.*)\Z")


def recognise(content: Text) -> bool:
    """Return whether every line is a group of nodes, or it is YAML with sources of such groups."""
    if content.keys:
        sources = [entries_or_none(value) for value in content.keys.values()]
        if any(source is not None for source in sources):
            return all(source and all(map(_is_nodes, source.values())) for source in sources)
    return bool(content.lines) and all(_LINE.match(line) for _, line in content.lines)


def _is_nodes(node: YamlNode) -> bool:
    if isinstance(node.yaml, yaml.SequenceNode):
        return all(isinstance(one, yaml.ScalarNode) for one in node.yaml.value)
    return isinstance(node.yaml, yaml.ScalarNode) and not node.is_empty()


def read(content: Text, draft: InventoryDraft) -> None:
    """Read every group, named ``source:group`` if there is more than one source."""
    sources = {
        source: value
        for source, value in content.keys.items()
        if entries_or_none(value) is not None
    }
    resolve(draft, _from_yaml(sources) if sources else _from_lines(content, draft))


def _from_yaml(sources: dict[str, YamlNode]) -> dict[str, tuple[int, str]]:
    groups = {}
    for source, node in sources.items():
        prefix = f"{source}:" if len(sources) > 1 else ""
        for name, (line, nodes) in entries(node, "a mapping of groups").items():
            words = ",".join(texts(nodes))
            groups[prefix + name] = line, renamed(words, source if prefix else "")
    return groups


def _from_lines(content: Text, draft: InventoryDraft) -> dict[str, tuple[int, str]]:
    groups: dict[str, tuple[int, str]] = {}
    for line, text in content.lines:
        match = _LINE.match(text)
        if not match:
            raise draft.error(line, f"not a group: {quoted(text)}", "gpu: gpu[01-08]")
        before = groups[match[1]][1] + "," if match[1] in groups else ""
        groups[match[1]] = line, before + match[2]
    return groups
