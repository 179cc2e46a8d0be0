"""Read Ray cluster files with the local provider, which list hosts.

Sources: Ray, "Launching an On-Premise Cluster" and "Cluster YAML Configuration Options".
"""

from __future__ import annotations

from ...spec.yaml_document import YamlNode, text, texts
from ..source import Text, entries, unread
from .draft import InventoryDraft
from .jump import from_proxy_command


def recognise(content: Text) -> bool:
    """Return whether it has a ``provider``."""
    return "provider" in content.keys and "hosts" not in content.keys


def read(content: Text, draft: InventoryDraft) -> None:
    """Read the hosts, the head first; the cluster's name becomes a group of them all."""
    root = content.yaml()
    top = entries(root, "a cluster")
    if "provider" not in top:
        raise root.error("the cluster file has no provider", "provider: {type: local, head_ip: a}")
    line, provider = top["provider"]
    inside = entries(provider, "a provider")
    kind = text(inside["type"][1]) if "type" in inside else "none"
    if kind != "local" or "head_ip" not in inside:
        raise draft.error(
            line,
            f"provider type {kind} lists no hosts",
            "use type: local with head_ip and worker_ips",
        )
    unread(draft, root, ("cluster_name", "provider", "auth"), "the cluster")
    unread(draft, provider, ("type", "head_ip", "worker_ips"), "provider")
    at, head = inside["head_ip"]
    names = [draft.host(text(head), at)]
    if "worker_ips" in inside and not inside["worker_ips"][1].is_empty():
        at, workers = inside["worker_ips"]
        names += [draft.host(word, at) for word in texts(workers)]
    if "cluster_name" in top:
        draft.group(text(top["cluster_name"][1]), names, top["cluster_name"][0])
    if "auth" in top:
        _auth(draft, top["auth"][1], dict.fromkeys(names))


def _auth(draft: InventoryDraft, node: YamlNode, names: dict[str, None]) -> None:
    given = entries(node, "auth")
    unread(draft, node, ("ssh_user", "ssh_private_key", "ssh_proxy_command"), "auth")
    for name in names:
        for key, ours in (("ssh_user", "user"), ("ssh_private_key", "identity_file")):
            if key in given:
                draft.give(name, ours, text(given[key][1]), given[key][0], "auth")
        if "ssh_proxy_command" in given:
            line, command = given["ssh_proxy_command"]
            jump = from_proxy_command(text(command))
            if jump:
                draft.give(name, "proxy_jump", jump, line, "auth")
            else:
                draft.note(line, "ssh_proxy_command is not carried over: set proxy_jump")
