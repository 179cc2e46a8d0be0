"""Takes a run back into the queue that has given GPUs back which its project had borrowed.

Its hosts wait again by the request by which they wait together: that has a token in the place of the
number of the attempt, so it serves each of them. See docs/decisions/0090-back-in-the-queue.md.
"""

from __future__ import annotations

from ...base import attendance
from ...base.protocol import Refused
from .. import template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...base.messages import GatherRequest, Message, Way


def of_attempt(request: GatherRequest, attempt: int) -> GatherRequest:
    """Return the request to wait with an attempt of this number. Pure."""
    token, packed = request.get("attempt"), request.get("packed") or ()
    if not token:
        return request
    made = dict(request)
    if request.get("start"):
        made["start"] = template.of_attempt(request["start"], token, attempt, packed)
    if request.get("starts"):
        every = request["starts"].items()
        made["starts"] = {
            name: template.of_attempt(one, token, attempt, packed) for name, one in every
        }
    return made  # type: ignore[return-value]


def attempt_of(request: GatherRequest) -> int:
    """Return the number of the attempt that a host waits with. Pure."""
    every = [*(request.get("starts") or {}).values(), *filter(None, [request.get("start")])]
    return every[0]["attempt"] if every else 0


def may_return(request: GatherRequest) -> bool:
    """Return whether the run may have to give its GPUs back, and can wait again by this request."""
    project = request.get("project")
    return bool(request.get("attempt") and project and project.get("preemptible"))


def leader_of(request: GatherRequest, way: Way) -> str:
    """Return the host that leads once the run has given its GPUs back: the same one, if it has some of
    them. Pure."""
    return next(host for host in request["gang"]["hosts"] if host in way["tokens"])


def led_by(request: GatherRequest, way: Way, port: int) -> Message | None:
    """Return how the others find the host that leads later, and listens at a ``port``; None where that
    is the one which leads now, or it listens nowhere. Pure."""
    gang, first = request["gang"], leader_of(request, way)
    if first == gang["hosts"][0] or not port:
        return None
    known = gang.get("places") or {}
    return {
        "hosts": [first, *(host for host in gang["hosts"] if host != first)],
        "address": way["address"],
        "addresses": list(dict.fromkeys([way["address"], *known.get(first, ())])),
        "port": port,
    }


def kept_for_later(
    request: GatherRequest, chosen: Sequence[str] = (), later: Message | None = None
) -> GatherRequest | None:
    """Return the request to wait again, without end, on the hosts that the run has ``chosen``: what it
    wrote is there; without any, on those of its only way. ``later`` is how they find each other then, if
    that changes. None for a run that never gives GPUs back, or that one leads which is none of these.
    Pure."""
    if not may_return(request):
        return None
    gang = dict(request["gang"], **(later or {}))
    made = dict(request, seconds=None, gang=gang)
    if request.get("ways"):
        if not chosen and len(request["ways"]) == 1:
            chosen = list(request["ways"][0]["tokens"])
        known = enumerate(request["ways"])
        number = next((n for n, way in known if {*way["tokens"]} == {*chosen}), None)
        start = request["starts"].get(str(number))
        if number is None or start is None or gang["hosts"][0] not in chosen:
            return None
        way = request["ways"][number]
        made.update(ways=[way], starts={"0": start}, **_of_way(request, way))
    return made  # type: ignore[return-value]


def _of_way(request: GatherRequest, way: Way) -> Message:
    """Return what a request says of the GPUs that the run waits for, where it waits for those of one
    way: it could choose among more hosts before, and an elastic run asked for the least. Pure."""
    counts, ticket = [count for count in way["counts"].values() if count], request.get("ticket")
    shares = sorted(counts, reverse=True)
    of_ticket = {"ticket": dict(ticket, shares=shares, hosts=len(shares))} if ticket else {}
    return {"project": dict(request["project"] or {}, gpus=sum(counts)), **of_ticket}


def hosts_of(request: GatherRequest) -> list[str]:
    """Return the hosts of the run, the one that leads in front. Pure."""
    from . import ways

    in_run = ways.hosts_of(ways.ways_of(request)[0])
    return [host for host in request["gang"]["hosts"] if host in in_run]


def stop_storing() -> None:
    """End what stores the outputs of the attempt before: from now on they change."""
    try:
        attendance.end(".")
    except (OSError, Refused):  # it stands still, and stores nothing more either
        pass
