"""torchrun: ``python -m torch.distributed.run`` once per node.

The rendezvous is static and torchrun's own restarts are off, as one side hangs after them. An elastic
job has a dynamic rendezvous, whose store is on the head node.
"""

from __future__ import annotations

from ..spec.model import Process
from ..spec.process_key import ProcessKey
from .base import Framework, Place
from .torch import COMPUTED, TORCH


class Torchrun(Framework):
    """The default: torch's own launcher, run by the host's Python and never found on PATH.

    Source: https://docs.pytorch.org/docs/stable/elastic/run.html
    """

    name = "torchrun"
    about = "torch.distributed.run on every node, ranks started by it"
    computed = COMPUTED
    modules = ("torch",)
    allreduce = "torch"
    meets_by = TORCH
    takes_wrapper = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one torchrun, which starts each rank through the shim."""
        node, elastic = place.node, place.job.elastic is not None
        argv = (
            *place.python(),
            "-m",
            "torch.distributed.run",
            *(_elastic(place) if elastic else _static(place)),
            *place.job.launcher_options,
            "--no-python",
            *place.rank_shim(),
            *place.command(),
        )
        env = {**place.threads(), **place.env}
        if "LT_CLI_USED" in env:  # fabric run, which tells Fabric its counts
            env["LT_DEVICES"] = str(node.local_world_size)
            env["LT_NUM_NODES"] = str(place.layout.num_nodes)
        if elastic:  # torch renumbers ranks each time; logs keep the numbers of the plan
            env["LAUNCHER_RANK_OFFSET"] = str(node.rank_offset)
            # Without it, a node that rejoins fails (torch 2.13).
            env.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
        return (Process(str(ProcessKey.of_node(node.node_rank)), None, argv, env),)


def _static(place: Place) -> tuple[str, ...]:
    return (
        f"--nnodes={place.layout.num_nodes}",
        f"--nproc-per-node={place.node.local_world_size}",
        f"--node-rank={place.node.node_rank}",
        f"--master-addr={place.meeting.master_addr}",
        f"--master-port={place.meeting.master_port}",
    )


#: Seconds to wait for nodes beyond the minimum and between heartbeats.
_PATIENCE = "last_call_timeout=5,keep_alive_interval=1"
#: Heartbeats that may be missed: torch compares the time of one host with that of another.
_MISSED = 3


def _elastic(place: Place) -> tuple[str, ...]:
    node, meeting = place.node, place.meeting
    is_host = "true" if node.node_rank == 0 else "false"
    address = meeting.addresses.get(node.host.name)
    missed = _MISSED + round(meeting.clock_spread)
    return (
        f"--nnodes={place.job.elastic}:{place.layout.num_nodes}",
        f"--nproc-per-node={node.local_world_size}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={meeting.master_addr}:{meeting.master_port}",
        f"--rdzv-id={place.layout.run_id}-{place.env['LAUNCHER_ATTEMPT']}",
        f"--rdzv-conf={_PATIENCE},keep_alive_max_attempt={missed},is_host={is_host}",
        *((f"--local-addr={address}",) if address else ()),
        f"--max-restarts={place.job.max_restarts}",
    )
