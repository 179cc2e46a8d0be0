"""Find hosts for a first inventory, and probe them."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..fleet.discovery import (
    Candidate,
    from_hostfile,
    from_known_hosts,
    from_ssh_config,
    from_words,
    gpus_of,
    host_entries,
    includes,
    inventory_text,
    plain,
)
from ..fleet.inventory_file import add_hosts, inventory_with, load_inventory
from ..fleet.ssh_programs import require_allowed
from ..spec.errors import HostError
from ..spec.inventory import load
from ..spec.model import Facts, Node

if TYPE_CHECKING:
    from .host_requests import AskPassphrase

__all__ = [
    "Candidate",
    "add_hosts",
    "found_here",
    "from_hostfile",
    "from_words",
    "gpus_of",
    "host_entries",
    "inventory_text",
    "load_inventory",
    "plain",
    "probe",
]


def found_here() -> tuple[tuple[Candidate, ...], tuple[Candidate, ...], int]:
    """Return the hosts in ~/.ssh/config, those only in known_hosts, and its number of hashed lines."""
    ssh = Path("~/.ssh").expanduser()
    texts = [_read(ssh / "config")]
    for pattern in includes(texts[0]):
        place = os.path.expanduser(pattern)  # relative to ~/.ssh: ssh_config(5), Include
        texts += [_read(Path(file)) for file in sorted(glob.glob(str(ssh / place)))]
    own = from_ssh_config("\n".join(texts))
    known, hashed = from_known_hosts(_read(ssh / "known_hosts"))
    names = {candidate.name for candidate in own}
    return own, tuple(one for one in known if one.name not in names), hashed


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8", errors="replace")
    except OSError:
        return ""


async def probe(
    chosen: Sequence[Candidate],
    ask_passphrase: AskPassphrase | None = None,
    file: Path | None = None,
) -> dict[str, Facts | HostError]:
    """Connect to hosts; return the facts of each, or its error.

    With ``file``, they are reached as hosts of that inventory would be, to which they are to be added.
    Raises InputError if that cannot be done.
    """
    from ..fleet.fanout import Visited, visit_hosts

    if file is None:
        inventory = load(inventory_text(chosen, {}, ""), "these hosts")
    else:
        inventory = inventory_with(file, host_entries(chosen, {}))
        require_allowed(inventory)
    names = {one.name for one in chosen}
    nodes = [
        Node(host, 0, 0, 0, root=host.workdir) for host in inventory.hosts if host.name in names
    ]

    async def look(visited: Visited) -> Facts:
        agent = await visited.agent()
        try:
            return await agent.probe(True)
        finally:
            await agent.close()

    return await visit_hosts(inventory, "", nodes, look, ask_passphrase)
