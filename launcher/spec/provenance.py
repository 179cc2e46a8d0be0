"""Where each setting of each host comes from in an inventory."""

from __future__ import annotations

from typing import Any

import yaml

from . import nodeset
from .frozen import frozen
from .yaml_document import YamlNode, parse, text


@frozen
class Given:
    """A setting of a host: its value, its line (0: unknown), and the part of the file it is in."""

    value: Any
    line: int
    via: str = ""


def origins(content: str, source: str) -> dict[str, dict[str, Given]]:
    """Return the settings of each host with their lines, by host and name.

    Each variable and label is a setting of its own: ``env.NAME``. Raises DocumentError.
    """
    root = {name: value for name, _, value in parse(content, source).items()}
    shared = _settings(root["defaults"], "defaults") if "defaults" in root else {}
    hosts = root["hosts"]
    if isinstance(hosts.yaml, yaml.SequenceNode):
        return {
            name: dict(shared)
            for element in hosts.elements()
            for name in nodeset.expand(text(element))
        }
    return {
        name: {**shared, **_settings(value, "")}
        for words, _, value in hosts.items()
        for name in nodeset.expand(words)
    }


def _settings(node: YamlNode, via: str) -> dict[str, Given]:
    found: dict[str, Given] = {}
    for key, key_node, value in [] if node.is_empty() else node.items():
        if key in ("env", "labels"):
            for name, at, one in value.items():
                found[f"{key}.{name}"] = Given(text(one), at.line, via)
        else:
            found[key] = Given(_written(value), key_node.line, via)
    return found


def _written(node: YamlNode) -> str:
    """Return a value in one line, as it may stand in the file."""
    if isinstance(node.yaml, yaml.MappingNode):
        return f"{{{', '.join(f'{name}: {_written(value)}' for name, _, value in node.items())}}}"
    if isinstance(node.yaml, yaml.SequenceNode):
        return f"[{', '.join(map(_written, node.elements()))}]"
    return text(node)
