"""The health of this host's GPUs, and the processes of all users that are on them."""

from __future__ import annotations

import re

from ..processes import processes
from . import gpus, nvidia

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import GpuFacts, GpuUse

_XID = re.compile(r"NVRM: Xid \((?:PCI:)?([0-9a-fA-F:.]+)\): (\d+)(.*)")


def devices(listed: list[GpuFacts], users: list[GpuUse]) -> dict[str, Any]:
    """Return what is known about the ``listed`` GPUs besides: ``{"driver", "ecc": {index: errors},
    "users", "failing", "xid", "log_readable"}``.

    Without GPUs only ``failing``: whether a vendor's tool is installed and does not work.
    """
    if not listed:
        tool = gpus.failing()
        return {"failing": bool(tool), "tool": tool}
    vendor = gpus.vendor(listed[0]["vendor"])
    xid, readable = faults() if vendor is nvidia else ([], True)
    return dict(
        vendor.health(listed),
        failing=False,
        users=users,
        xid=xid,
        log_readable=readable,
    )


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
