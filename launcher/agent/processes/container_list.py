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

#: In the folder of a run: the list, and what the supervisor holds open.
LIST, FIFO = "containers", "containers.fifo"
#: Seconds for a runtime to remove containers.
PATIENCE = 20.0


def write(known: Iterable[tuple[ContainerSpec, str]]) -> None:
    """Write it in the working directory, before what is in it is started. Each container has a runtime
    and a name: roles of a run may have different ones."""
    note(LIST, known)


def note(path: str, known: Iterable[tuple[ContainerSpec, str]]) -> None:
    """Write a list to a file."""
    with open(path + ".new", "w") as file:
        file.write(text(known))
    os.replace(path + ".new", path)


def text(known: Iterable[tuple[ContainerSpec, str]]) -> str:
    """Return what such a file holds: the containers of each runtime."""
    names: dict[tuple[str, str], list[str]] = {}
    for spec, name in known:
        names.setdefault((spec["runtime"], spec["program"]), []).append(name)
    return lean.dumps(
        [
            {"spec": {"runtime": runtime, "program": program}, "names": its}
            for (runtime, program), its in names.items()
        ]
    )


def remove(run_dir: str) -> bool:
    """Remove the containers that a run has left; return whether none is left."""
    return remove_noted(os.path.join(run_dir, LIST))


def remove_noted(path: str) -> bool:
    """Remove the containers that are listed in a file; return whether none is left."""
    try:
        with open(path) as file:
            known: Any = lean.loads(file.read())
        every = [known] if isinstance(known, dict) else known  # an earlier version writes one alone
        found = [
            containers.removal(one["spec"], [str(name) for name in one["names"]]) for one in every
        ]
    except FileNotFoundError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    env = {n: v for n, v in os.environ.items() if not n.startswith("LAUNCHER_")}
    done = [processes.output_of(argv, PATIENCE, env) is not None for argv in found if argv]
    return all(done)


def end(run_dir: str) -> None:
    """Remove the containers that a run without a supervisor has left, and the files about them."""
    if remove(run_dir):
        forget(run_dir)


def forget(run_dir: str) -> None:
    """Remove the files about containers that are gone."""
    for name in (LIST, FIFO):
        try:
            os.unlink(os.path.join(run_dir, name))
        except OSError:
            pass
