"""slurm: one process per rank, with the variables of a task that ``srun`` started, and torch's.

Scripts written for Slurm, Lightning and JAX's ``initialize()`` find their ranks by them.
"""

from __future__ import annotations

import zlib
from dataclasses import replace
from itertools import groupby

from ..spec.addresses import endpoint
from ..spec.model import Process
from .base import Place
from .torch import COMPUTED, Torch

#: The variable of an array's element.
ELEMENT = "SLURM_ARRAY_TASK_ID"
_STEP = ("SLURM_STEP_ID", "SLURM_STEPID")
_JOB = ("SLURM_JOB_ID", "SLURM_JOBID")
_NODES = ("SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_STEP_NUM_NODES")
_TASKS = ("SLURM_NTASKS", "SLURM_NPROCS", "SLURM_STEP_NUM_TASKS")
_NODELISTS = ("SLURM_NODELIST", "SLURM_JOB_NODELIST", "SLURM_STEP_NODELIST")
_TASKS_PER_NODE = ("SLURM_TASKS_PER_NODE", "SLURM_STEP_TASKS_PER_NODE")
_OTHERS = (
    *("SLURM_JOB_NAME", "SLURM_NODEID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"),
    *("SLURMD_NODENAME", "SLURM_SUBMIT_DIR", "SLURM_LAUNCH_NODE_IPADDR", "SLURM_RESTART_COUNT"),
    *("SLURM_GPUS_ON_NODE", "SLURM_GPUS_PER_NODE", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS"),
    "SLURM_GTIDS",
    *("SLURM_SUBMIT_HOST", "SLURM_CLUSTER_NAME"),
)


def number(name: str) -> str:
    """Return the number of a job, made from a name."""
    return str(zlib.crc32(name.encode()) & 0x7FFFFFFF)


def of_job(place: Place, counts: list[int]) -> dict[str, str]:
    """Return Slurm's variables of a job, on one of its nodes; ``counts`` are the tasks of each node.

    Lists of nodes hold addresses, since hosts need not know each other's names, and a job's number is
    made from the run's name.
    """
    node, layout = place.node, place.layout
    addresses = (place.meeting.address_of(other.host) for other in layout.nodes)
    equal = {"SLURM_NTASKS_PER_NODE": str(counts[0])} if len(set(counts)) == 1 else {}
    gpus = {
        "SLURM_GPUS_ON_NODE": str(len(node.gpus)),
        "SLURM_JOB_GPUS": ",".join(map(str, node.gpus)),
    }
    if len({len(other.gpus) for other in layout.nodes}) == 1:
        gpus["SLURM_GPUS_PER_NODE"] = gpus["SLURM_GPUS_ON_NODE"]
    return {
        **dict.fromkeys(_JOB, number(layout.run_id)),
        **dict.fromkeys(_NODES, str(layout.num_nodes)),
        **dict.fromkeys(_TASKS, str(sum(counts))),
        **dict.fromkeys(_NODELISTS, ",".join(addresses)),
        **dict.fromkeys(_TASKS_PER_NODE, _repeated(counts)),
        **equal,
        **(gpus if node.gpus else {}),
        # Lightning takes a job named bash or interactive for one without srun.
        "SLURM_JOB_NAME": place.job.name or "launcher",
        "SLURM_NODEID": str(node.node_rank),
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURMD_NODENAME": node.host.name,
        "SLURM_SUBMIT_DIR": f"{place.env['LAUNCHER_RUN_DIR']}/code",
        "SLURM_SUBMIT_HOST": layout.nodes[0].host.name,
        "SLURM_CLUSTER_NAME": "launcher",
        "SLURM_LAUNCH_NODE_IPADDR": place.meeting.master_addr,
        "SLURM_RESTART_COUNT": place.env["LAUNCHER_ATTEMPT"],
    }


def task(place: Place, rank: int) -> dict[str, str]:
    """Return Slurm's variables of a rank, which is a task of the only step."""
    node = place.node
    return {
        **of_job(place, [other.local_world_size for other in place.layout.nodes]),
        **dict.fromkeys(_STEP, "0"),
        "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank - node.rank_offset),
        "SLURM_GTIDS": ",".join(map(str, node.ranks)),
        **({"SLURM_STEP_GPUS": ",".join(map(str, node.gpus))} if node.gpus else {}),
    }


def _repeated(counts: list[int]) -> str:
    """Return numbers as Slurm writes them: ``4(x2),2``."""
    runs = ((count, len(list(group))) for count, group in groupby(counts))
    return ",".join(f"{count}(x{times})" if times > 1 else str(count) for count, times in runs)


class Slurm(Torch):
    """For scripts that read ``SLURM_PROCID`` and its like.

    Source: OUTPUT ENVIRONMENT VARIABLES of srun(1).
    """

    name = "slurm"
    about = "one process per rank, with the variables of a task of srun, and torch's"
    computed = COMPUTED | {*_JOB, *_STEP, *_NODES, *_TASKS, *_NODELISTS, *_TASKS_PER_NODE, *_OTHERS}
    imports = ()
    preloads = False  # libraries look for Slurm's variables when they are imported
    cast = None
    meets_by = ""  # tasks of srun may well be independent

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one process per rank."""
        meeting = place.meeting
        # JAX would make up a port of its own, which may be taken.
        jax = {"JAX_COORDINATOR_ADDRESS": endpoint(meeting.master_addr, meeting.master_port)}
        return tuple(
            replace(one, env={**jax, **one.env, **task(place, one.rank or 0)})
            for one in super().processes(place)
        )
