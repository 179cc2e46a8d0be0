"""What frameworks share whose own launcher runs on the first host and reaches the others by ``ssh``."""

from __future__ import annotations

from collections.abc import Mapping

from ..spec.errors import PlanError
from ..spec.model import Layout, Process
from ..spec.process_key import ProcessKey
from .base import Framework, Place

#: Starts a rank on whatever host: what a launcher hands on is the same for all of them, while paths,
#: Python and interfaces differ. ``LAUNCHER_NODE`` is set where somebody else's environment came along.
_RANK = 'exec "${LAUNCHER_NODE:-$LAUNCHER_RUN_DIR}/relay/rank" "$@"'


def interface(place: Place) -> str | None:
    """The network interface of this host towards the others, where it is known."""
    return place.env.get("GLOO_SOCKET_IFNAME")


def slots(layout: Layout) -> str:
    """Hosts and how many ranks each has: ``gpu1:8,gpu2:4``."""
    return ",".join(f"{node.host.name}:{node.local_world_size}" for node in layout.nodes)


def names(layout: Layout) -> dict[str, str]:
    """Variables for commands that name hosts: ``HOSTS``, and ``SLOTS`` as horovodrun -H and mpirun -H
    want them."""
    return {"HOSTS": " ".join(node.host.name for node in layout.nodes), "SLOTS": slots(layout)}


def rank_command(place: Place) -> tuple[str, ...]:
    """The job's command behind the shim that gives a rank its own environment, logs and status."""
    command = own_command(place)
    if command[0] == place.node.python:
        command = ("python", *command[1:])  # on every host its own
    return ("/bin/sh", "-c", _RANK, "rank", *command)


#: What stands for the number of ranks in commands that other systems start.
_WORKERS = (
    *("%RUNAI_MPI_NUM_WORKERS%", "$RUNAI_MPI_NUM_WORKERS", "${RUNAI_MPI_NUM_WORKERS}"),
    "{{world_size}}",
)


def own_command(place: Place) -> tuple[str, ...]:
    """The job's command; of ``horovodrun -np N COMMAND`` and ``mpirun -np N COMMAND``, which a job may
    bring along, the inner one. Raises PlanError where what it says is not the plan."""
    launcher, *words = place.command()
    if launcher not in ("horovodrun", "mpirun", "mpiexec"):
        return (launcher, *words)
    size = place.layout.world_size
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("--gloo", "--verbose", "--disable-cache", "--allow-run-as-root"):
            continue
        if option not in ("-np", "-n", "--num-proc"):
            hint = "leave it out: hosts, slots and networks are the plan's; or --framework ssh"
            raise PlanError(f"{launcher} {option} cannot be taken over", hint)
        number = words.pop(0) if words else "nothing"
        if number not in (*_WORKERS, str(size)):
            hint = "--gpus, or --nodes and --nproc-per-node; -np {{world_size}} always fits"
            raise PlanError(f"{launcher} {option} {number}: there are {size} ranks here", hint)
    if not words:
        raise PlanError(f"{launcher} has no command", f"{launcher} -np 2 python train.py")
    return tuple([place.node.python, *words[1:]] if words[0] == "python" else words)


def processes(
    place: Place, argv: tuple[str, ...], env: Mapping[str, str], secrets: bool = False
) -> tuple[Process, ...]:
    """On the first host the framework's launcher ``argv``; on the others ours, that waits for it.

    A launcher that hands its whole environment on as arguments gets no ``secrets``.
    """
    where = (place.meeting.master_addr, str(place.meeting.master_port))
    agent = (place.node.python, "-I", "-S", place.agent)
    if place.node.node_rank == 0:
        words = (*agent, "head", *where, "with-secrets" if secrets else "bare", "--", *argv)
    else:
        words = (*agent, "peer", *where)
    return (Process(str(ProcessKey.of_node(place.node.node_rank)), None, words, env),)


class Ssh(Framework):
    """For programs that start their own processes by ``ssh HOST COMMAND``, with hosts that hold no
    keys for each other."""

    name = "ssh"
    about = "the command on the first host alone; `ssh HOST` in it reaches the others"
    computed = frozenset({"HOSTS", "SLOTS", "CUDA_VISIBLE_DEVICES"})
    shell = True
    joins_hosts = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """The command, with the names of all hosts in HOSTS and SLOTS."""
        env = {**place.env, **names(place.layout)}
        return processes(place, place.command(), env, secrets=True)
