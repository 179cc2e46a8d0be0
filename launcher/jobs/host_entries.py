"""Decides which names lead to which addresses in the /etc/hosts that a run's processes get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..spec.addresses import is_address
from ..spec.model import Host, Layout, Meeting

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?\Z", re.A)


def host_entries(
    layout: Layout, meeting: Meeting, hostnames: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the entries of all hosts of a run that have an address; each adds its own name itself.

    What a host calls itself counts for the others only if it is its name in the inventory, with or
    without a domain: else a host could take over any name there.
    """
    entries = []
    for node in layout.nodes:
        address = meeting.address_of(node.host)
        if is_address(address):
            names = _names(node.host, hostnames.get(node.host.name, ""))
            entries.append({"host": node.host.name, "address": address, "names": names})
    return entries


def _names(host: Host, hostname: str) -> list[str]:
    known = [host.name, *([host.address] if host.address else [])]
    given = [name for name in known if _NAME.match(name) and not is_address(name)]
    first_labels = {name.partition(".")[0].lower() for name in given}
    is_given = _NAME.match(hostname) and hostname.partition(".")[0].lower() in first_labels
    return list(dict.fromkeys([*given, *([hostname] if is_given else [])]))
