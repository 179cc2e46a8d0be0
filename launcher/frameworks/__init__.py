"""How processes are started, by name: the registry, and what a framework has to be.

To add one: a file with a class like those here, and a row in ``BUILTIN``; outside this package, an
entry point in the group ``launcher.frameworks``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..spec.errors import InputError, suggestion
from .accelerate import Accelerate
from .base import Cast, Framework, Need, Place
from .deepspeed import DeepSpeed
from .env import Env
from .horovod import Horovod
from .horovod_direct import HorovodDirect
from .horovod_mpi import HorovodMpi
from .jax import Jax
from .lightning import Lightning
from .mpi import Mpi
from .mxnet import MXNet
from .rsh import Ssh
from .tensorflow import TensorFlow
from .torch import Torch
from .torchrun import Torchrun

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "launcher.frameworks"

_ALL: tuple[Framework, ...] = (
    *(Torchrun(), Torch(), Env(), Horovod(), HorovodDirect(), HorovodMpi(), Mpi(), Ssh()),
    *(TensorFlow(), MXNet(), Jax(), Lightning(), Accelerate(), DeepSpeed()),
)
BUILTIN: dict[str, Framework] = {framework.name: framework for framework in _ALL}


def names() -> tuple[str, ...]:
    """All frameworks that can be named."""
    return (*BUILTIN, *(point.name for point in _others()))


def get(name: str) -> Framework:
    """The framework of that name. Raises InputError."""
    if name in BUILTIN:
        return BUILTIN[name]
    for point in _others():
        if point.name == name:
            framework: Framework = point.load()()
            return framework
    raise InputError(f'unknown framework "{name}"', hint_for(name))


def _others() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # slow, and most runs need none of them

    return entry_points(group=GROUP)


def hint_for(name: str) -> str:
    """What to write instead of an unknown name."""
    return suggestion(name, names()) or f"known: {', '.join(names())}"


__all__ = ["BUILTIN", "GROUP", "Cast", "Framework", "Need", "Place", "get", "hint_for", "names"]
