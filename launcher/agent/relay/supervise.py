"""Lays out the folder of a run on this host, and starts its supervisor."""

from __future__ import annotations

import os

from ..base import attendance, lean, programs, run_lock
from ..supervisor import daemon

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Message, SupervisorSpec


def lay_out(run_dir: str, request: Message) -> None:
    """Write what the run has on each host before anything of it starts."""
    for folder in ("outputs", "logs"):
        os.makedirs(os.path.join(run_dir, folder), exist_ok=True)
    own = programs.folder(run_dir, "bin")
    for name, text in request.get("programs", {}).items():
        path = os.path.join(own, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)  # that of an image has a folder
        _write(path, text, 0o700)
    _write(os.path.join(run_dir, "run.json"), lean.dumps(request["record"]), 0o600)


def start(root: str, run_dir: str, spec: SupervisorSpec, request: Message) -> None:
    """Start the supervisor of a run, unless there is one. Raises OSError."""
    attendance.end(run_dir)  # of an attempt before
    is_new = "warm" in request and not run_lock.is_alive(run_dir)
    if not is_new or not _is_taken(root, run_dir, spec, request):
        daemon.launch(run_dir, spec, _store)


def _is_taken(root: str, run_dir: str, spec: SupervisorSpec, request: Message) -> bool:
    """Return whether what an earlier run has left is the supervisor of this one. If not, ``spec``
    says why, and gets a place for what this run leaves. A head start never costs the run."""
    from . import kept_pythons  # few runs import anything ahead

    try:
        why = kept_pythons.take(root, run_dir, spec, request)
    except OSError:
        why = None
    if why == []:
        return True
    if why:
        spec["unlike"] = why
    if spec.get("keep"):
        try:
            spec["place"] = kept_pythons.make(root, request.get("programs", {}))
        except OSError as error:
            spec["no_place"] = error.strerror or str(error)
    return False


def _store(supply: Message, age: float, silent: float, alone: bool) -> None:
    from . import unattended  # few runs have it, and only at their end

    unattended.begin(supply, age, silent, alone)


def _write(path: str, text: str, mode: int) -> None:
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)
