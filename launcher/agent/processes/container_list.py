"""The list of a run's containers on this host: there as long as its runtime may have left one."""

from __future__ import annotations

import os

from ..base import lean
from . import containers, processes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from ..base.messages import ContainerSpec

#: In the folder of a run.
LIST = "containers"
#: Seconds for a runtime to remove containers.
PATIENCE = 20.0


def write(spec: ContainerSpec, names: Iterable[str]) -> None:
    """Write it in the working directory, before what is in it is started."""
    note(LIST, spec, names)


def note(path: str, spec: ContainerSpec, names: Iterable[str]) -> None:
    """Write a list to a file."""
    with open(path + ".new", "w") as file:
        file.write(text(spec, names))
    os.replace(path + ".new", path)


def text(spec: ContainerSpec, names: Iterable[str]) -> str:
    """Return what such a file holds."""
    about = {"runtime": spec["runtime"], "program": spec["program"]}
    return lean.dumps({"spec": about, "names": list(names)})


def remove(run_dir: str) -> bool:
    """Remove the containers that a run has left; return whether none is left."""
    return remove_noted(os.path.join(run_dir, LIST))


def remove_noted(path: str) -> bool:
    """Remove the containers that are listed in a file; return whether none is left."""
    try:
        with open(path) as file:
            known: dict[str, Any] = lean.loads(file.read())
        argv = containers.removal(known["spec"], [str(name) for name in known["names"]])
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    if not argv:
        return True
    env = {n: v for n, v in os.environ.items() if not n.startswith("LAUNCHER_")}
    return processes.output_of(argv, PATIENCE, env) is not None


def end(run_dir: str) -> None:
    """Remove the containers that a run without a supervisor has left, and the list."""
    if remove(run_dir):
        try:
            os.unlink(os.path.join(run_dir, LIST))
        except OSError:
            pass
