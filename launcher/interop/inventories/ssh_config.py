"""Read an ssh_config(5): the hosts named in it, with the settings of all entries that match.

The first value wins, as in ssh.
"""

from __future__ import annotations

import re

from ..draft import quoted
from ..source import Text
from .draft import InventoryDraft
from .jump import from_proxy_command
from .ssh_entries import Entries, matches_host, parse

_KEYS = {
    "hostname": "address",
    "user": "user",
    "port": "port",
    "proxyjump": "proxy_jump",
    "proxycommand": "proxy_jump",
    "identityfile": "identity_file",
}


def recognise(content: Text) -> bool:
    """Return whether it has a line ``Host ...`` or ``Match ...``."""
    return not content.keys and any(
        re.match(r"(host|match)(\s+|\s*=\s*)\S", line, re.IGNORECASE) for _, line in content.lines
    )


def read(content: Text, draft: InventoryDraft) -> None:
    """Read every name of a ``Host`` line that is not a pattern as a host."""
    entries = parse(content.content, draft)
    for entry in entries:
        for name in entry.patterns or ():
            if not set("*?!") & set(name):
                _host(entries, name, entry.line, draft)
    for entry in entries:
        taken_in = (matches_host(entry.patterns or (), name) for name in draft.hosts)
        if entry.is_general and entry.settings and not any(taken_in):
            draft.note(entry.line, "this entry applies to none of the hosts")


def _host(entries: Entries, name: str, line: int, draft: InventoryDraft) -> None:
    given = list(entries.matching(name))
    if any((key, value) == ("user", "git") for key, value, _ in given):
        draft.note(line, f"{quoted(name)[1:-1]} (user git) is a Git server, not a host: left out")
        return
    host = draft.host(name, line)
    if draft.lines[host] != line:
        return  # a later entry of the same name was already read with the first one
    done: set[str] = set()
    for key, value, at in given:
        if key in _KEYS and _KEYS[key] in done and key != "identityfile":
            continue  # the first value wins
        ours = _value(key, value, name)
        if ours is None or (key in _KEYS and _KEYS[key] in done):
            draft.note(at, f"{key} is not carried over")
        elif ours:
            draft.give(host, _KEYS[key], ours, at)
        done |= {_KEYS[key]} if key in _KEYS else set()


def _value(key: str, value: str, name: str) -> str | None:
    """Return a keyword's value as ours; empty for no value, None if we have no such setting."""
    if key not in _KEYS:
        return None
    if value.lower() == "none" and key != "user":
        return ""
    if key == "proxycommand":
        return from_proxy_command(value)
    if key == "hostname":
        return value.replace("%%", "\0").replace("%h", name).replace("\0", "%%")
    return value
