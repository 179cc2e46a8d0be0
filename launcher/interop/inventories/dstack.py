"""Read SSH fleets of dstack: ``type: fleet`` with ``ssh_config``.

Source: dstack's reference of ``.dstack.yml``, page "fleet".
"""

from __future__ import annotations

from ...spec.yaml_document import YamlNode, text
from ..source import Text, entries, entries_or_none, unread
from .draft import InventoryDraft

_SETTINGS = ("user", "port", "identity_file")


def recognise(content: Text) -> bool:
    """Return whether it has ``type: fleet``, or hosts under ssh_config."""
    kind = content.keys.get("type")
    inside = entries_or_none(content.keys.get("ssh_config"))
    return (kind is not None and kind.yaml.value == "fleet") or bool(inside and "hosts" in inside)


def read(content: Text, draft: InventoryDraft) -> None:
    """Read the fleet as a group; its settings are the defaults of its hosts."""
    root = content.yaml()
    top = entries(root, "a fleet")
    if "ssh_config" not in top:
        raise root.error("a fleet without ssh_config has no hosts of its own", "ssh_config: hosts:")
    unread(draft, root, ("type", "name", "ssh_config"), "the fleet")
    line, ssh = top["ssh_config"]
    unread(draft, ssh, (*_SETTINGS, "proxy_jump", "hosts"), "ssh_config")
    common = entries(ssh)
    if "hosts" not in common:
        raise draft.error(line, "ssh_config has no hosts", "hosts: [10.0.0.1]")
    names = [_host(draft, node, common) for node in common["hosts"][1].elements()]
    if "name" in top:
        draft.group(text(top["name"][1]), names, top["name"][0])


def _host(draft: InventoryDraft, node: YamlNode, common: dict[str, tuple[int, YamlNode]]) -> str:
    own: dict[str, tuple[int, YamlNode]] = {}
    word = node
    if entries_or_none(node) is not None:
        own = entries(node)
        if "hostname" not in own:
            raise node.error("a host without a hostname", "{hostname: 10.0.0.1}")
        unread(draft, node, (*_SETTINGS, "hostname", "proxy_jump"), "a host")
        word = own["hostname"][1]
    name = draft.host(text(word), node.line)
    if draft.lines[name] != node.line:
        raise node.error(f"host {name} appears twice, first in line {draft.lines[name]}")
    for given, via in ((common, "ssh_config"), (own, "")):
        for key in _SETTINGS:
            if key in given:
                draft.give(name, key, text(given[key][1]), given[key][0], via)
        if "proxy_jump" in given:
            line, jump = given["proxy_jump"]
            draft.give(name, "proxy_jump", _jump(draft, jump), line, via)
    return name


def _jump(draft: InventoryDraft, node: YamlNode) -> str:
    """Return a jump host as ``[user@]host[:port]``."""
    if entries_or_none(node) is None:
        return text(node)
    inside = {key: text(value) for key, (_, value) in entries(node).items()}
    if "hostname" not in inside:
        raise node.error("a proxy_jump without a hostname", "{hostname: head, user: me}")
    if "identity_file" in inside:
        draft.note(
            node.line,
            "identity_file of the jump host is not carried over: set it in ~/.ssh/config under "
            f"Host {inside['hostname']}",
        )
    user = f"{inside['user']}@" if "user" in inside else ""
    return user + inside["hostname"] + (f":{inside['port']}" if "port" in inside else "")
