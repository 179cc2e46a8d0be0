"""The frameworks, by name: how the processes of a node are started.

To add one here, write a module with a subclass of :class:`Framework`, and add a row to ``BUILTIN``.
To add one from a package of your own, derive from the same class and declare an entry point::

    # my_package.py
    from launcher.frameworks import Framework, Place
    from launcher.spec.model import Process

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

from ..spec.errors import InputError, suggestion
from . import plugins
from .base import Cast, Framework, Need, Place
from .plugins import GROUP, PluginWarning

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


def names() -> tuple[str, ...]:
    """Return the names of all frameworks, built in and plugged in, without importing any."""
    return (*BUILTIN, *(name for name in plugins.found() if name not in BUILTIN))


@cache
def get(name: str) -> Framework:
    """Return the framework of that name. Raises InputError."""
    if name in BUILTIN:
        module, _, class_name = BUILTIN[name].partition(":")
        framework: Framework = getattr(import_module(f".{module}", __name__), class_name)()
        return framework
    if (point := plugins.found().get(name)) is None:
        raise InputError(f'unknown framework "{name}"', hint_for(name))
    try:
        return plugins.load(point)
    except plugins.Unusable as error:
        raise InputError(
            f"{plugins.described(point)} cannot be used: {error}", error.hint
        ) from None


def hint_for(name: str) -> str:
    """Return what to write instead of an unknown name. Warns of plug-ins that cannot be used."""
    known = (*BUILTIN, *plugins.usable(reserved=BUILTIN))
    return suggestion(name, known) or f"known: {', '.join(known)}"


__all__ = [
    "BUILTIN",
    "GROUP",
    "Cast",
    "Framework",
    "Need",
    "Place",
    "PluginWarning",
    "get",
    "hint_for",
    "names",
]
