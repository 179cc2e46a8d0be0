"""Read SkyPilot's SSH node pools: ``~/.sky/ssh_node_pools.yaml``.

Source: SkyPilot, "Deploy SkyPilot on existing machines", section "Defining SSH Node Pools".
"""

from __future__ import annotations

import yaml

from ...spec.yaml_document import YamlNode, text
from ..source import Text, entries, entries_or_none, unread
from .draft import InventoryDraft

_SETTINGS = ("user", "identity_file")


def recognise(content: Text) -> bool:
    """Return whether every entry is a pool, and some pool has a list of hosts."""
    pools = [entries_or_none(value) for value in content.keys.values()]
    return all(pool is not None for pool in pools) and any(
        pool and "hosts" in pool and isinstance(pool["hosts"].yaml, yaml.SequenceNode)
        for pool in pools
    )


def read(content: Text, draft: InventoryDraft) -> None:
    """Read every pool as a group; its settings are the defaults of its hosts."""
    for pool, (line, value) in entries(content.yaml(), "a mapping of pools").items():
        unread(draft, value, (*_SETTINGS, "hosts"), f"pool {pool}")
        inside = entries(value, "a pool")
        if "hosts" not in inside:
            raise draft.error(line, f"pool {pool!r} has no hosts", "hosts: [10.0.0.1]")
        own = {key: inside[key] for key in _SETTINGS if key in inside}
        names = [_host(draft, host, own, pool) for host in inside["hosts"][1].elements()]
        draft.group(pool, names, line)


def _host(
    draft: InventoryDraft, node: YamlNode, pool: dict[str, tuple[int, YamlNode]], called: str
) -> str:
    settings = dict(pool)
    word = node
    if entries_or_none(node) is not None:
        inside = entries(node)
        if "ip" not in inside:
            raise node.error("a host without an ip", "{ip: 10.0.0.1, user: me}")
        unread(draft, node, (*_SETTINGS, "ip"), "a host")
        word = inside.pop("ip")[1]
        settings |= {key: inside[key] for key in _SETTINGS if key in inside}
    name = draft.host(text(word), node.line)
    before = dict(draft.hosts[name])
    for key, (line, value) in settings.items():
        via = f"pool {called}" if settings[key] is pool.get(key) else ""
        draft.give(name, key, text(value), line, via)
        if key in before and before[key].value != draft.hosts[name][key].value:
            raise node.error(
                f"host {name} appears twice with a different {key}, first in line "
                f"{draft.lines[name]}",
            )
    return name
