"""The processes of all users that are on the GPUs of this host, whoever started them."""

from __future__ import annotations

import os

from ..processes import processes
from . import gpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import GpuFacts, GpuUse


def ask() -> tuple[int, int] | None:
    """Start the tool that lists them, beside whatever else is asked; :func:`users` takes its answer."""
    vendor = gpus.first_vendor()
    return processes.begin(vendor.apps_command()) if vendor else None


def users(
    listed: list[GpuFacts], asked: tuple[int, int] | None, seconds: float = 10.0
) -> list[GpuUse]:
    """Return all processes on the ``listed`` GPUs.

    ``run`` is the run of this user that its environment names, and ``user`` None where /proc has no
    such pid (a container's own numbers); ``memory`` is in MiB.
    """
    text = processes.output(asked, seconds) if asked else None
    if not listed:
        return []
    vendor = gpus.vendor(listed[0]["vendor"])
    index_of = {str(gpu["index"]): gpu["index"] for gpu in listed}
    index_of.update({gpu["uuid"]: gpu["index"] for gpu in listed if gpu["uuid"]})
    return [
        {
            "gpu": index_of[name],
            "pid": pid,
            "user": _owner(pid),
            "command": _command(pid),
            "run": _run_of(pid),
            "memory": memory,
            "since": processes.started_at(pid),
        }
        for pid, name, memory in vendor.apps(text or "")
        if name in index_of
    ]


def _owner(pid: int) -> str | None:
    uid = processes.user_of(pid)
    return None if uid is None else processes.user_name(uid)


def _command(pid: int) -> str:
    """Return the command line; of another user's process its name, which is not in its memory."""
    if processes.is_own(pid):
        return str(processes.describe(pid)["command"])[:80]
    try:
        with open("/proc/%d/comm" % pid, "rb") as file:
            return file.read(80).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _run_of(pid: int) -> str | None:
    if not processes.is_own(pid):
        return None  # what another user's process says of itself proves nothing
    try:
        with open("/proc/%d/environ" % pid, "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return None
    for variable in variables:
        if variable.startswith(b"LAUNCHER_RUN_ID="):
            return os.fsdecode(variable.partition(b"=")[2])
    return None
