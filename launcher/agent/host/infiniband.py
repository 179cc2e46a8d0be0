"""The InfiniBand and RoCE ports of this host, as the kernel shows them in /sys to everybody."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEVICES = "/sys/class/infiniband"
#: Ports and GIDs that are looked at, of each device.
MOST_PORTS, MOST_GIDS = 8, 64


def ports(root: str = DEVICES) -> list[dict[str, Any]]:
    """Return ``[{"device", "port", "state", "rate", "layer", "gid", "gid_index"}]`` of all ports.

    ``state`` is ACTIVE, DOWN, INIT or ARMED, ``rate`` is in Gbit/s, and ``layer`` InfiniBand or
    Ethernet. The GID is the one that NCCL needs: on Ethernet that of RoCE v2 with an IPv4 address,
    else any of RoCE v2; otherwise the first one. ``gid_index`` is -1 where there is none.
    """
    found = []
    for device in listed(root):
        folder = os.path.join(root, device, "ports")
        for port in [name for name in listed(folder) if name.isdigit()][:MOST_PORTS]:
            at = os.path.join(folder, port)
            layer = _text(at, "link_layer")
            index, gid = _gid(at, layer == "Ethernet")
            found.append(
                {
                    "device": device,
                    "port": int(port),
                    "state": _text(at, "state").partition(":")[2].strip(),
                    "rate": _rate(_text(at, "rate")),
                    "layer": layer,
                    "gid": gid,
                    "gid_index": index,
                }
            )
    return found


def _rate(text: str) -> float:
    """Return 200.0 for ``200 Gb/sec (4X HDR)``."""
    try:
        return float(text.split()[0])
    except (IndexError, ValueError):
        return 0.0


def _gid(port: str, is_roce: bool) -> tuple[int, str]:
    known = []
    folder = os.path.join(port, "gids")
    for index in sorted(int(name) for name in listed(folder) if name.isdigit())[:MOST_GIDS]:
        gid = _text(folder, str(index))
        if gid.replace(":", "").strip("0"):
            kind = _text(port, "gid_attrs", "types", str(index))
            known.append(
                (index, gid, kind == "RoCE v2", ":ffff:" in gid and gid.startswith("0000"))
            )
    if is_roce:
        known = sorted((one for one in known if one[2]), key=lambda one: not one[3])
    return (known[0][0], known[0][1]) if known else (-1, "")


def listed(folder: str) -> list[str]:
    """Return the names in a folder, in order; ``[]`` where it does not exist."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _text(*path: str) -> str:
    try:
        with open(os.path.join(*path), encoding="utf-8", errors="replace") as file:
            return file.read(200).strip()
    except (OSError, ValueError):  # reading the type of a GID that is not set fails with EINVAL
        return ""
