"""accelerate: ``accelerate launch`` once per host, without a config file on any host.

It starts torch's own launcher, which starts each rank through our shim.
"""

from __future__ import annotations

from ..spec.model import Process
from ..spec.process_key import ProcessKey
from .base import Framework, Place
from .torch import COMPUTED, TORCH


class Accelerate(Framework):
    """Hugging Face's launcher, run by the host's Python and never found on PATH.

    Source: https://huggingface.co/docs/accelerate/package_reference/cli#accelerate-launch
    """

    name = "accelerate"
    about = "accelerate launch on every host, ranks started by it"
    computed = COMPUTED
    modules = ("accelerate", "torch")
    allreduce = "torch"
    meets_by = TORCH
    takes_wrapper = True

    def processes(self, place: Place) -> tuple[Process, ...]:
        """Return one launcher per host. Raises PlanError for unequal hosts."""
        place.require_equal_hosts("accelerate")
        node, layout, meeting = place.node, place.layout, place.meeting
        options = {
            "--num_processes": layout.world_size,
            "--num_machines": layout.num_nodes,
            "--machine_rank": node.node_rank,
            "--rdzv_backend": "static",
            "--main_process_ip": meeting.master_addr,
            "--main_process_port": meeting.master_port,
        }
        argv = (
            *place.python(),
            "-m",
            "accelerate.commands.launch",
            *_kind(place),
            *(word for option, value in options.items() for word in (option, str(value))),
            *place.job.launcher_options,
            "--no_python",
            *place.rank_shim(),
            *place.command(),
        )
        # Without this, each rank on a host without GPUs would silently train alone.
        device = {} if node.gpus else {"ACCELERATE_USE_CPU": "true"}
        env = {**place.threads(), **device, **place.env}
        return (Process(str(ProcessKey.of_node(node.node_rank)), None, argv, env),)


#: Options that say how ranks work together, and may say it in a file.
_KINDS = ("--config_file", "--use_deepspeed", "--use_fsdp", "--use_megatron_lm")


def _kind(place: Place) -> tuple[str, ...]:
    """Return what accelerate would ask or warn about, unless the job's own options say it."""
    given = {option.partition("=")[0] for option in place.job.launcher_options}
    if given & set(_KINDS):
        return ("--deepspeed_multinode_launcher", "standard")  # or it wants pdsh
    defaults = ("--mixed_precision", "--dynamo_backend")
    words = [word for name in defaults if name not in given for word in (name, "no")]
    # Also on hosts without GPUs: with --cpu it would start one process, whatever it is told.
    return ("--multi_gpu", *words) if place.layout.world_size > 1 else tuple(words)
