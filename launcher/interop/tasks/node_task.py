"""Read what tasks of SkyPilot and dstack have in common: one command per node, variables, nodes."""

from __future__ import annotations

import re
from collections.abc import Mapping

import yaml

from ...spec.yaml_document import YamlNode, text
from ..source import entries
from .draft import JobDraft
from .templates import filled

#: Name, value and line of a variable; one without a value is read from the user's environment.
Pair = tuple[str, str | None, int]


def name_and_nodes(draft: JobDraft, given: Mapping[str, tuple[int, YamlNode]], nodes: str) -> None:
    """Set the job's name and number of nodes; ``nodes`` is the key. Raises DocumentError."""
    if "name" in given:
        draft.name(text(given["name"][1]), given["name"][0])
    if nodes in given:
        line, node = given[nodes]
        if not re.fullmatch("[1-9][0-9]{0,3}", text(node)):
            raise draft.error(line, f"{nodes} is a whole number")
        draft.values["num_nodes"] = int(text(node))


def pairs(node: YamlNode) -> list[Pair]:
    """Return the variables of a mapping, or of a list of ``NAME=value`` and ``NAME``."""
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
    """Set the script, preceded by exports of the foreign ``variables`` that it mentions.

    ``ips`` is the variable with the addresses of all nodes, one per line, the first node's first.
    """
    nodes = range(int(draft.values.get("num_nodes", 1)))
    hosts = " ".join(f"{{{{host:node.{number}}}}}" for number in nodes)
    all_of_them = {**variables, ips: f"\"$(printf '%s\\n' {hosts})\""}
    draft.command(filled(script, {}, draft, line), all_of_them)


def note_secret(draft: JobDraft, line: int, name: str) -> None:
    """Note that a secret value of the file or of a foreign server is not copied."""
    draft.note(line, f"the value of {name[:60]} is not copied: export it before the run")
