"""The frameworks, by name: how the processes of a node are started.

To add one here, write a module with a subclass of :class:`Framework`, and add a row to ``BUILTIN``.
To add one from a package of your own, derive from the same class and declare an entry point::

    # my_package.py
    from launcher.api.plugins import Framework, Place, Process

    class Mine(Framework):
        name = "mine"

        def processes(self, place: Place) -> tuple[Process, ...]:
            return tuple(place.process(task, {"RANK": str(task.rank)}) for task in place.tasks())

    # pyproject.toml
    [project.entry-points."launcher.frameworks"]
    mine = "my_package:Mine"

A framework is imported when it is used. A plug-in that cannot be used is an error for the job that
names it and, where frameworks are listed, a :class:`PluginWarning`; it never disturbs another one.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

from ..spec.errors import InputError, suggestion
from ..spec.plugins import Plugins, PluginWarning, Unusable
from .base import Cast, Framework, Need, Place, starts_ranks

#: The module and class of each, in this package.
BUILTIN = {
    "torchrun": "torchrun:Torchrun",
    "torch": "torch:Torch",
    "env": "env:Env",
    "horovod": "horovod:Horovod",
    "horovod-direct": "horovod_direct:HorovodDirect",
    "horovod-mpi": "horovod_mpi:HorovodMpi",
    "mpi": "mpi:Mpi",
    "ssh": "ssh:Ssh",
    "tensorflow": "tensorflow:TensorFlow",
    "mxnet": "mxnet:MXNet",
    "jax": "jax:Jax",
    "lightning": "lightning:Lightning",
    "accelerate": "accelerate:Accelerate",
    "deepspeed": "deepspeed:DeepSpeed",
    "slurm": "slurm:Slurm",
    "dask": "dask:Dask",
    "ray": "ray:Ray",
    "sbatch": "sbatch:Sbatch",
}


def _of_class(name: str, made: Any) -> Framework:
    """Return the framework of a plug-in's class. Raises Unusable."""
    framework = made()
    if not isinstance(framework, Framework):
        raise Unusable(
            "is not a launcher.frameworks.Framework",
            "derive its class from launcher.frameworks.Framework, without other changes",
        )
    if framework.name != name:
        raise Unusable(
            f'has the name "{framework.name}"',
            f'set name = "{name}" there, or rename the entry point',
        )
    return framework


PLUGINS = Plugins("launcher.frameworks", "framework", _of_class, BUILTIN)


def names() -> tuple[str, ...]:
    """Return the names of all frameworks, built in and plugged in, without importing any."""
    return (*BUILTIN, *PLUGINS.names())


@cache
def get(name: str) -> Framework:
    """Return the framework of that name. Raises InputError."""
    if name in BUILTIN:
        module, _, class_name = BUILTIN[name].partition(":")
        framework: Framework = getattr(import_module(f".{module}", __name__), class_name)()
        return framework
    if (plugged := PLUGINS.get(name)) is None:
        raise InputError(f'unknown framework "{name}"', hint_for(name))
    return plugged


#: What other tools, or people, call a framework.
_OTHER_NAMES = {
    **dict.fromkeys(("plain", "none", "command", "bash", "shell", "process"), "env"),
    **dict.fromkeys(("pytorch", "ddp", "fsdp", "elastic", "distributed"), "torchrun"),
    **dict.fromkeys(("mpirun", "openmpi", "mpich"), "mpi"),
    **dict.fromkeys(("horovodrun", "hvd"), "horovod"),
    **dict.fromkeys(("tf", "keras"), "tensorflow"),
    **dict.fromkeys(("srun",), "slurm"),
}


def hint_for(name: str) -> str:
    """Return what to write instead of an unknown name. Warns of plug-ins that cannot be used."""
    known = (*BUILTIN, *PLUGINS.usable())
    if (meant := _OTHER_NAMES.get(name.lower())) is not None:
        return f"{meant}: {get(meant).about}"
    return suggestion(name, known) or f"known: {', '.join(known)}"


__all__ = [
    "BUILTIN",
    "PLUGINS",
    "Cast",
    "Framework",
    "Need",
    "Place",
    "PluginWarning",
    "get",
    "hint_for",
    "names",
    "starts_ranks",
]
