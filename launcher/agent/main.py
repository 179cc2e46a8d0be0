"""The commands of the agent: what a relay, a rank, and the hosts of one run between them start."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the part that the first argument names; imports that one only."""
    part, rest = sys.argv[1], sys.argv[2:]
    if part == "relay":
        from .relay.relay import main as run
    elif part == "rank":
        from .mesh.rank_shim import main as run
    elif part == "await-port":
        from .mesh.await_port import main as run
    elif part == "ssh":
        from .mesh.ssh import main as run
    elif part in ("lead", "peer"):
        from .mesh.peers import main as run

        rest = sys.argv[1:]
    else:
        sys.exit("usage: start.py relay | rank | await-port | ssh | lead | peer ...")
    run(rest)
