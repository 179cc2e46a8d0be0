"""What builds the environments of jobs on hosts, and what of this machine can be brought to them."""

from __future__ import annotations

import os
import shutil
import sys

from ..spec.environments import CONDA_BUILDERS

#: The program of this machine that a host gets which has nothing to build an environment, by its kind.
BROUGHT = {"uv": "uv", "conda": "micromamba", "pixi": "pixi"}
#: What may build one, as people call it.
NAMES = {"uv": "uv", "conda": "micromamba, mamba or conda", "pixi": "pixi"}


def finder(kind: str) -> str:
    """Return the lines of sh by which a host looks for what builds a kind of environment, if any."""
    return CONDA_BUILDERS if kind == "conda" else ""


def own(kind: str) -> str:
    """Return the program of this machine that could be brought to hosts; "" without one."""
    name = BROUGHT[kind]
    places = (
        None,
        os.path.dirname(sys.executable),
        *map(os.path.expanduser, ("~/.local/bin", "~/.pixi/bin")),
    )
    found = (shutil.which(name, path=place) for place in places)
    return next((path for path in found if path), "")


def fits(machine: str, libc: str) -> bool:
    """Return whether a program of this machine runs on a host of that kind."""
    return machine == os.uname().machine and libc.startswith("glibc")
