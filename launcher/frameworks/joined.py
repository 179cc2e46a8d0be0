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


def slots(place: Place) -> str:
    """Hosts and how many ranks each has: ``gpu1:8,gpu2:4``."""
    return ",".join(f"{node.host.name}:{node.local_world_size}" for node in place.layout.nodes)


def rank_command(place: Place) -> tuple[str, ...]:
    """The job's command behind the shim that gives a rank its own environment, logs and status."""
    command = place.command()
    if command[0] == place.node.python:
        command = ("python", *command[1:])  # on every host its own
    return ("/bin/sh", "-c", _RANK, "rank", *command)


def processes(
    place: Place, argv: tuple[str, ...], env: Mapping[str, str], secrets: bool = False
) -> tuple[Process, ...]:
    """On the first host the framework's launcher ``argv``; on the others ours, that waits for it.

    A launcher that hands its whole environment on as arguments gets no ``secrets``.
    """
    where = (place.meeting.master_addr, str(place.meeting.master_port))
    agent = (place.node.python, "-I", "-S", place.agent)
    if place.node.node_rank == 0:
        words = (*agent, "lead", *where, "with-secrets" if secrets else "bare", "--", *argv)
    else:
        words = (*agent, "peer", *where)
    return (Process(f"node-{place.node.node_rank}", None, words, env),)


class Ssh:
    """For programs that start their own processes by ``ssh HOST COMMAND``, with hosts that hold no
    keys for each other."""

    name = "ssh"
    about = "the command on the first host alone; `ssh HOST` in it reaches the others"
    computed = frozenset({"HOSTS", "CUDA_VISIBLE_DEVICES"})
    shell = True
    joins_hosts = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """The command, with the names of all hosts in HOSTS."""
        hosts = " ".join(node.host.name for node in place.layout.nodes)
        return processes(place, place.command(), {**place.env, "HOSTS": hosts}, secrets=True)
