"""The commands of the agent, one for each kind of process that runs it."""

from __future__ import annotations

import gc
import sys

#: New objects until garbage is looked for. Imports make thousands of objects and no garbage.
MANY = 50000


def main() -> None:
    """Run the command that the first argument names; import only what it needs."""
    gc.set_threshold(MANY)
    part, rest = sys.argv[1], sys.argv[2:]
    if part == "relay":
        from .relay.relay import main as run
    elif part == "rank":
        from .mesh.rank_shim import main as run
    elif part == "await-port":
        from .mesh.await_port import main as run
    elif part == "ssh":
        from .mesh.ssh import main as run
    elif part == "cluster":
        from .mesh.cluster import main as run
    elif part == "share":
        from .mesh.sharing import main as run
    elif part == "slurm":
        from .mesh.slurm import main as run
    elif part == "kept":
        from .relay.kept_pythons import wait as run
    elif part in ("head", "peer"):
        from .mesh.peers import main as run

        rest = sys.argv[1:]
    else:
        sys.exit(
            "usage: start.py relay | rank | await-port | ssh | cluster | share | slurm | head | peer ..."
        )
    run(rest)
