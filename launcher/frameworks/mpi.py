"""mpi: ``mpirun`` on the first host, which reaches the others through the agents.

Written for Open MPI. Its ranks keep their own logs and exit statuses, like those of all frameworks.
"""

from __future__ import annotations

from ..spec.model import Process
from . import rsh
from .base import Framework, Need, Place

# Open MPI refuses to run as root unless it is told twice.
_AS_ROOT = "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"
_MPIRUN = f'[ "$(id -u)" != 0 ] || export {_AS_ROOT}; exec mpirun "$@"'

#: What mpirun has to be told so that its daemons are started, and ended, by the agents.
SETTINGS = (
    "--leave-session-attached",  # a daemon of ours ends with the one that called it
    *("--mca", "plm_rsh_agent", "ssh"),
    *("--mca", "plm_rsh_no_tree_spawn", "1"),  # else the others would call ssh as well
    *("--mca", "plm_rsh_pass_environ_mca_params", "0"),  # interfaces have other names there
)
MPIRUN = Need(
    "program:mpirun",
    "Open MPI's mpirun",
    "launcher bootstrap --with openmpi, or apt-get install openmpi-bin there",
)


def environment(place: Place) -> dict[str, str]:
    """What a node's ranks and MPI's daemon there have: their host's own interface."""
    own = rsh.interface(place)
    names = ("OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include")
    chosen = dict.fromkeys(names, own) if own else {}
    hosts = [place.meeting.address_of(node.host) for node in place.layout.nodes]
    if len(set(hosts)) < len(hosts):  # one machine: ranks of two of them crash in its shared memory
        chosen["OMPI_MCA_btl"] = "self,tcp"
        # Daemons of one job on one machine share a session folder, and the first to end removes it.
        chosen["OMPI_MCA_orte_tmpdir_base"] = f"{place.env['LAUNCHER_RUN_DIR']}/mpi"
    return {**place.threads(), **chosen, **place.env}


class Mpi(Framework):
    """For programs that call MPI_Init, mpi4py among them.

    Source: mpirun(1) of Open MPI 4.1, and ``ompi_info --param plm rsh --level 9``.
    """

    name = "mpi"
    about = "mpirun (Open MPI) on the first host, which starts the ranks on all of them"
    computed = frozenset({"CUDA_VISIBLE_DEVICES"})
    needs = (MPIRUN,)
    allreduce = "mpi"
    joins_hosts = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """mpirun, and on the other hosts what runs its daemons."""
        argv = (
            *("/bin/sh", "-c", _MPIRUN, "mpirun", "-np", str(place.layout.world_size)),
            *("-H", rsh.slots(place.layout), "--map-by", "slot"),
            *("--bind-to", "none"),  # two runs on one host would share the first cores
            *SETTINGS,
            *rsh.rank_command(place),
        )
        return rsh.processes(place, argv, environment(place))
