"""env: the command once per node; it starts its own ranks, using the variables it finds.

RANK is the rank of the *node*, as VESSL defines it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar

from ..spec.model import Process
from ..spec.process_key import ProcessKey
from . import rsh
from .base import Cast, Framework, Place

#: The start of a program of ours, and its end, between which it changes what the real one of the same
#: name gets. It passes over itself by file, not by path, as it may be a link.
_FRONT = r"""#!/bin/sh
set -f
IFS=:
for folder in $PATH; do
  program=$folder/NAME
  if [ "$program" -ef "$0" ] || [ ! -f "$program" ] || [ ! -x "$program" ]; then continue; fi
"""
_BACK = r"""  unset IFS
  exec "$program" "$@"
done
echo "NAME: command not found" >&2
exit 127
"""


def _in_front_of(name: str, lines: str) -> str:
    return (_FRONT + lines + _BACK).replace("NAME", name)


#: An ``accelerate`` in front of the real one, which hands it what torchrun reads from PET_RDZV_CONF.
#: Accelerate overrides that variable by an option of its own, which is empty unless it is given. Then
#: no host whose own name leads to loopback knows that it is the first, and none starts c10d's store.
ACCELERATE = _in_front_of(
    "accelerate",
    r"""  if [ "$1" = launch ] && [ -n "$PET_RDZV_CONF" ]; then
    case " $*" in
      *[\ :]--rdzv_conf*) ;;
      *) shift; set -- launch --rdzv_conf "$PET_RDZV_CONF" "$@" ;;
    esac
  fi
""",
)
#: The same for torchtune. Without an endpoint, ``tune run`` starts each host alone. torchrun gets none,
#: as it would win over the options --master_addr and --master_port of a script.
TUNE = _in_front_of(
    "tune",
    r"""  if [ "$1" = run ] && [ -n "$PET_MASTER_ADDR" ]; then
    export PET_RDZV_ENDPOINT="${PET_RDZV_ENDPOINT:-$PET_MASTER_ADDR:$PET_MASTER_PORT}"
  fi
""",
)


class Env(Framework):
    """For commands that start ``torch.distributed.launch`` or another launcher themselves.

    Source of the variables: VESSL's documentation of distributed experiments.
    """

    name = "env"
    about = (
        "the command once per node, with NUM_NODES, NUM_TRAINERS, RANK, MASTER_ADDR, MASTER_PORT"
    )
    computed = frozenset(
        {
            "NUM_NODES",
            "NUM_TRAINERS",
            "RANK",
            "NODE_RANK",
            "MASTER_ADDR",
            "MASTER_PORT",
            "CUDA_VISIBLE_DEVICES",
        }
    )
    shell = True
    allreduce = "torch"
    preloads = True
    programs: ClassVar[Mapping[str, str]] = {"accelerate": ACCELERATE, "tune": TUNE}
    cast = Cast(own_ranks=True)

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one process per node; with roles, one per task, each of which counts as a node."""
        node, layout = place.node, place.layout
        if not node.tasks:
            env = self._env(place, layout.num_nodes, node.local_world_size, node.node_rank)
            return (Process(str(ProcessKey.of_node(node.node_rank)), None, place.command(), env),)
        order = [task for other in layout.nodes for task in other.tasks]
        processes = (
            place.process(task, self._env(place, len(order), task.size, order.index(task)))
            for task in node.tasks
        )
        return tuple(replace(process, rank=None) for process in processes)

    def _env(self, place: Place, nodes: int, trainers: int, rank: int) -> dict[str, str]:
        meeting = place.meeting
        # torchrun takes these for options that it does not get; one that stands alone gets none.
        alone = any("--standalone" in word for word in place.command())
        torchrun = {
            "PET_NNODES": str(nodes),
            "PET_NPROC_PER_NODE": str(trainers),
            "PET_NODE_RANK": str(rank),
            "PET_MASTER_ADDR": meeting.master_addr,
            "PET_MASTER_PORT": str(meeting.master_port),
            # By c10d, a first host whose own name is loopback would not know that it is the first.
            **({} if rank else {"PET_RDZV_CONF": "is_host=true"}),
        }
        own = meeting.addresses.get(place.node.host.name)
        # Where a host's own name is loopback, torchrun and Paddle would give others that address.
        addresses = {"PET_LOCAL_ADDR": own, "POD_IP": own} if own else {}
        # Without it, accelerate trains on each host without GPUs alone.
        no_gpus = place.env.get("CUDA_VISIBLE_DEVICES") == ""
        device = {"ACCELERATE_USE_CPU": "true"} if no_gpus else {}
        # Scripts of many projects take these, and else believe in one host: ${NNODES:-1}.
        counts = {
            "NNODES": str(nodes),
            **dict.fromkeys(("NPROC_PER_NODE", "GPUS_PER_NODE"), str(trainers)),
        }
        return {
            **counts,
            **({} if alone else torchrun),
            **addresses,
            **device,
            **rsh.names(place.layout),
            **place.env,
            "NUM_NODES": str(nodes),
            "NUM_TRAINERS": str(trainers),
            "RANK": str(rank),
            "NODE_RANK": str(rank),
            "MASTER_ADDR": place.meeting.master_addr,
            "MASTER_PORT": str(place.meeting.master_port),
        }
