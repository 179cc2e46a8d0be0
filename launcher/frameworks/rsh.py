"""Serve frameworks whose own launcher runs on the first host and reaches the others by ``ssh``."""

from __future__ import annotations

from collections.abc import Mapping

from ..spec.errors import PlanError
from ..spec.model import Layout, Process
from ..spec.process_key import ProcessKey
from .base import RANK_ANYWHERE, Place


def interface(place: Place) -> str | None:
    """Return this host's network interface to the others, or None if it is unknown."""
    return place.env.get("GLOO_SOCKET_IFNAME")


def slots(layout: Layout) -> str:
    """Return the hosts and their numbers of ranks: ``gpu1:8,gpu2:4``."""
    return ",".join(f"{node.host.name}:{node.local_world_size}" for node in layout.nodes)


def names(layout: Layout) -> dict[str, str]:
    """Return variables for commands that name hosts.

    ``HOSTS`` lists them, ``SLOTS`` has the form that horovodrun -H and mpirun -H take.
    """
    return {"HOSTS": " ".join(node.host.name for node in layout.nodes), "SLOTS": slots(layout)}


def rank_command(place: Place) -> tuple[str, ...]:
    """Return the job's command behind the shim, which gives a rank its environment, log and status."""
    command = own_command(place)
    if command[0] == place.node.python:
        command = ("python", *command[1:])  # every host has its own
    return ("/bin/sh", "-c", RANK_ANYWHERE, "rank", *command)


#: What commands written for other systems have in place of the number of ranks.
_WORKERS = (
    "%RUNAI_MPI_NUM_WORKERS%",
    "$RUNAI_MPI_NUM_WORKERS",
    "${RUNAI_MPI_NUM_WORKERS}",
    "{{world_size}}",
)


def own_command(place: Place) -> tuple[str, ...]:
    """Return the job's command, without a ``horovodrun -np N`` or ``mpirun -np N`` in front of it.

    Raises PlanError if their options contradict the plan.
    """
    launcher, *words = place.command()
    if launcher not in ("horovodrun", "mpirun", "mpiexec"):
        return (launcher, *words)
    size = place.layout.world_size
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("--gloo", "--verbose", "--disable-cache", "--allow-run-as-root"):
            continue
        if option not in ("-np", "-n", "--num-proc"):
            hint = "leave it out, as launcher chooses hosts, slots and networks; or use --framework ssh"
            raise PlanError(f"{launcher} {option} cannot be used", hint)
        number = words.pop(0) if words else "nothing"
        if number not in (*_WORKERS, str(size)):
            hint = "set --gpus, or --nodes and --nproc-per-node; -np {{world_size}} always fits"
            raise PlanError(f"{launcher} {option} {number}: the run has {size} ranks", hint)
    if not words:
        raise PlanError(f"{launcher} has no command", f"{launcher} -np 2 python train.py")
    return tuple([place.node.python, *words[1:]] if words[0] == "python" else words)


def processes(
    place: Place, argv: tuple[str, ...], env: Mapping[str, str], secrets: bool = False
) -> tuple[Process, ...]:
    """Return the framework's launcher ``argv`` on the first host, and a peer of ours on the others.

    A launcher that passes its whole environment on as arguments must not get ``secrets``.
    """
    where = (place.meeting.master_addr, str(place.meeting.master_port))
    agent = (place.node.python, "-I", "-S", place.agent)
    if place.node.node_rank == 0:
        words = (*agent, "head", *where, "with-secrets" if secrets else "bare", "--", *argv)
    else:
        words = (*agent, "peer", *where)
    return (Process(str(ProcessKey.of_node(place.node.node_rank)), None, words, env),)
