"""What tasks of SkyPilot and dstack have in common: a command a node, its variables, nodes and GPUs."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from ...spec.yaml_document import YamlNode, text
from ..source import entries
from .draft import JobDraft
from .templates import filled

#: A variable with its line; without a value it comes from the environment here.
Pair = tuple[str, str | None, int]


def name_and_nodes(draft: JobDraft, given: Mapping[str, tuple[int, YamlNode]], nodes: str) -> None:
    """The task's name, and how many nodes it has. Raises DocumentError."""
    if "name" in given:
        draft.name(text(given["name"][1]), given["name"][0])
    if nodes in given:
        line, node = given[nodes]
        if not re.fullmatch("[1-9][0-9]{0,3}", text(node)):
            raise draft.error(line, f"{nodes} is a whole number")
        draft.values["num_nodes"] = int(text(node))


def pairs(node: YamlNode) -> list[Pair]:
    """Variables of a mapping, or of a list of ``NAME=value`` and ``NAME``; null is no value."""
    if node.is_empty():
        return []
    if isinstance(node.yaml, yaml.MappingNode):
        return [
            (name, None if value.is_empty() else text(value), line)
            for name, (line, value) in entries(node).items()
        ]
    found: list[Pair] = []
    for element in node.elements("a list of variables"):
        name, equals, value = text(element).partition("=")
        found.append((name, value if equals else None, element.line))
    return found


def command(
    draft: JobDraft, line: int, script: str, variables: Mapping[str, str], ips: str
) -> None:
    """The script as it was, after the variables of theirs that it mentions; ``ips`` is the one that
    holds the addresses of all nodes, one a line, the first node's first."""
    nodes = range(int(draft.values.get("num_nodes", 1)))
    hosts = " ".join(f"{{{{host:node.{number}}}}}" for number in nodes)
    all_of_them = {**variables, ips: f"\"$(printf '%s\\n' {hosts})\""}
    draft.command(filled(script, {}, draft, line), all_of_them)


def kept_here(draft: JobDraft, line: int, name: str) -> None:
    """Says that a value which stands in the file, or on a server of theirs, is not written down."""
    draft.note(line, f"the value of {name[:60]} is not copied: export it before the run")
