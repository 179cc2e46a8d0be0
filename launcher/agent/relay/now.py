"""What the GPUs of this host do now, who holds them, and who waits: cheap enough to be asked for every
two seconds."""

from __future__ import annotations

import time

from ..host import gpu_locks, gpu_users, gpus, nvidia, projects, socket_names, tickets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import GpuFacts, GpuLoad, HostNow, MemberFacts

#: Seconds for the vendor's tool to answer.
PATIENCE = 10.0


class Now:
    """Looks at this host again and again; which GPUs there are is asked once."""

    def __init__(self) -> None:
        self._listed: list[GpuFacts] = []

    def look(self) -> HostNow:
        """Return what is so now."""
        asked = gpu_users.ask()  # beside the rest
        self._listed = self._listed or gpus.listed(PATIENCE)
        loads = gpus.vendor(self._listed[0]["vendor"]).load(PATIENCE) if self._listed else {}
        names = tickets.names()
        return {
            "gpus": {str(gpu["index"]): _load(gpu["index"], loads) for gpu in self._listed},
            "gpu_users": gpu_users.users(self._listed, asked),
            "tickets": tickets.read(names),
            "leased": {str(index): holder for index, holder in gpu_locks.held().items()},
            "members": _members(),
            "runs": gpu_locks.registered(),
            "time": time.time(),
        }


def _members() -> list[MemberFacts]:
    try:
        return projects.members(socket_names.seen())
    except OSError:  # too many to be shown
        return []


def _load(index: int, loads: dict[int, GpuLoad]) -> GpuLoad:
    """Return the load of a GPU; of a MIG instance only how hot its GPU is."""
    own = loads.get(gpu_locks.parent_of(index))
    celsius = own["celsius"] if own else None
    if own is None or index >= nvidia.MIG:
        return {"percent": None, "celsius": celsius, "memory": None}
    return own
