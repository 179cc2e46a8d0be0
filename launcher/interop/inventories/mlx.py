"""Read hostfiles of mlx.launch: JSON with ``ssh`` and ``ips`` of every host.

Source: MLX, "Launching Distributed Programs".
"""

from __future__ import annotations

import yaml

from ...spec.yaml_document import YamlNode, text
from ..source import Text, entries, entries_or_none, login, unread
from .draft import InventoryDraft


def recognise(content: Text) -> bool:
    """Return whether it is a list of hosts with ``ssh``."""
    return any("ssh" in (entries_or_none(host) or ()) for host in _hosts(content))


def _hosts(content: Text) -> list[YamlNode]:
    node = content.keys.get("hosts") or content.root
    if node is None or not isinstance(node.yaml, yaml.SequenceNode):
        return []
    return node.elements()


def read(content: Text, draft: InventoryDraft) -> None:
    """Read every host, named by its ``ssh``; ``envs`` apply to all of them."""
    root = content.yaml()
    envs = content.keys.get("envs")
    if content.keys:
        unread(draft, root, ("hosts", "envs"), "the file")
    for node in _hosts(content):
        inside = entries(node, "a host")
        if "ssh" not in inside:
            raise node.error("a host without ssh", '{"ssh": "gpu1", "ips": ["10.0.0.1"]}')
        user, host, port = login(text(inside["ssh"][1]))
        name = draft.host(host, node.line)
        for key, value in (("user", user), ("port", port)):
            if value:
                draft.give(name, key, value, node.line)
        unread(draft, node, ("ssh",), "a host")
        for one in envs.elements() if envs else []:
            variable, equals, value = text(one).partition("=")
            if not equals:
                raise one.error("expected NAME=VALUE")
            draft.give(name, f"env.{variable}", value, one.line, "envs")
