"""The health of this host's GPUs, and the processes of all users that are on them."""

from __future__ import annotations

import os
import re

from ..processes import processes
from . import gpus, nvidia

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import GpuFacts

_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)(.*)")


def devices(listed: list[GpuFacts]) -> dict[str, Any]:
    """Return what is known about the ``listed`` GPUs besides: ``{"driver", "ecc": {index: errors},
    "users", "failing", "xid", "log_readable"}``.

    Without GPUs only ``failing``: whether a vendor's tool is installed and does not work.
    """
    if not listed:
        return {"failing": gpus.is_failing()}
    vendor = gpus.vendor(listed[0]["vendor"])
    xid, readable = faults() if vendor is nvidia else ([], True)
    return dict(
        vendor.health(listed),
        failing=False,
        users=users(listed),
        xid=xid,
        log_readable=readable,
    )


def users(listed: list[GpuFacts]) -> list[dict[str, Any]]:
    """``[{"gpu", "pid", "user", "command", "run", "memory", "since"}]`` of all processes on GPUs.

    ``run`` is the run of this user that its environment names, and ``user`` None where /proc has no
    such pid (a container's own numbers); ``memory`` is in MiB.
    """
    if not listed:
        return []
    vendor = gpus.vendor(listed[0]["vendor"])
    index_of = {str(gpu["index"]): gpu["index"] for gpu in listed}
    index_of.update({gpu["uuid"]: gpu["index"] for gpu in listed})
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
        for pid, name, memory in vendor.apps(processes.output_of(vendor.APPS) or "")
        if name in index_of
    ]


def _owner(pid: int) -> str | None:
    uid = processes.user_of(pid)
    return None if uid is None else processes.user_name(uid)


def _command(pid: int) -> str:
    """The command line; of another user's process its name, which needs no look into its memory."""
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


def faults() -> tuple[list[list[Any]], bool]:
    """Return ``([[bus, number, text], ...], whether the kernel's log could be read)``.

    These are NVIDIA's Xid messages since boot, the last one of each number and GPU.
    """
    text = processes.output_of(["dmesg"], 5.0)
    if text is None:
        text = processes.output_of(["journalctl", "-kqb", "--no-pager", "-o", "cat"], 5.0)
    found = {}
    for bus, number, rest in _XID.findall(text or ""):
        found[bus, number] = [bus, int(number), rest.strip(" ,")[:120]]
    return list(found.values()), bool(text)
