"""The health of this host's GPUs, and the processes of all users that are on them."""

from __future__ import annotations

import os
import re

from ..processes import processes
from . import gpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import GpuFacts

_HEALTH = [
    "--query-gpu=uuid,driver_version,ecc.errors.uncorrected.volatile.total",
    "--format=csv,noheader,nounits",
]
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)(.*)")


def devices(listed: list[GpuFacts]) -> dict[str, Any]:
    """Return what is known about the ``listed`` GPUs besides: ``{"driver", "ecc": {index: errors},
    "users", "failing", "xid", "log_readable"}``.

    Without GPUs only ``failing``: whether nvidia-smi is installed and does not work.
    """
    if not listed:
        return {"failing": _is_there() and processes.output_of(["nvidia-smi", "-L"]) is None}
    index_of = {gpu["uuid"]: gpu["index"] for gpu in listed}
    driver, ecc = None, {}
    for row in _rows(_HEALTH):
        if len(row) == 3 and row[0] in index_of:
            driver = row[1]
            if row[2].isdigit():
                ecc[str(index_of[row[0]])] = int(row[2])
    xid, readable = faults()
    return {
        "failing": False,
        "driver": driver,
        "ecc": ecc,
        "users": users(index_of),
        "xid": xid,
        "log_readable": readable,
    }


def _is_there() -> bool:
    try:
        processes.find_program("nvidia-smi", os.environ.get("PATH", os.defpath), "/")
    except FileNotFoundError:
        return False
    return True


def _rows(query: list[str]) -> list[list[str]]:
    answer = processes.output_of(["nvidia-smi"] + query) or ""
    return [[field.strip() for field in line.split(",")] for line in answer.splitlines()]


def users(index_of: dict[str, int]) -> list[dict[str, Any]]:
    """``[{"gpu", "pid", "user", "command", "run"}]`` of all processes on GPUs; ``run`` is the
    run of this user that its environment names, and ``user`` None where /proc has no such pid
    (a container's own numbers)."""
    found = []
    for row in _rows(gpus.APPS):
        if len(row) >= 2 and row[0].isdigit() and row[1] in index_of:
            pid = int(row[0])
            found.append(
                {
                    "gpu": index_of[row[1]],
                    "pid": pid,
                    "user": _owner(pid),
                    "command": _command(pid),
                    "run": _run_of(pid),
                }
            )
    return found


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
