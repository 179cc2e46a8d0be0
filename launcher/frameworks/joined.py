"""What frameworks share whose own launcher runs on the first host and reaches the others by ``ssh``.

Not responsible for what that launcher is told.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..model import Process
from .base import Place

#: Starts a rank on whatever host: what a launcher hands on is the same for all of them, while paths,
#: Python and interfaces differ. ``LAUNCHER_NODE`` is set where somebody else's environment came along.
_RANK = 'exec "${LAUNCHER_NODE:-$LAUNCHER_RUN_DIR}/relay/rank" "$@"'


def interface(place: Place) -> str | None:
    """The network interface of this host towards the others, where it is known."""
    return place.env.get("GLOO_SOCKET_IFNAME")


def rank_command(place: Place) -> tuple[str, ...]:
    """The job's command behind the shim that gives a rank its own environment, logs and status."""
    command = place.command()
    if command[0] == place.node.python:
        command = ("python", *command[1:])  # on every host its own
    return ("/bin/sh", "-c", _RANK, "rank", *command)


def processes(place: Place, argv: tuple[str, ...], env: Mapping[str, str]) -> tuple[Process, ...]:
    """On the first host the framework's launcher ``argv``; on the others ours, that waits for it."""
    where = (place.meeting.master_addr, str(place.meeting.master_port))
    agent = (place.node.python, "-I", "-S", place.agent)
    leads = place.node.node_rank == 0
    words = (*agent, "lead", *where, "--", *argv) if leads else (*agent, "peer", *where)
    return (Process(f"node-{place.node.node_rank}", None, words, env),)
