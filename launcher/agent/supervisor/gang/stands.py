"""How things stand in the queue of one host: as it tells the leader, and as that reads it. Pure."""

from __future__ import annotations

from ...host import socket_names
from .. import waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ...base.messages import GatherRequest, Message, TicketFacts
    from ..stands import Stand

#: What no leader needs to know of a ticket.
_OF_NO_USE = ("waited", "by_itself", "no_room", "leads", "no_leader", "unsure")


def told(
    run: str,
    believed: Iterable[TicketFacts],
    leased: Mapping[int, Mapping[str, Any]],
    outside: Sequence[int],
) -> Message:
    """Return what a host tells the leader of a run."""
    return {
        "tickets": _once(_told_of(one, run) for one in believed),
        "leased": {
            str(index): {name: one[name] for name in ("run", "left") if name in one}
            for index, one in leased.items()
        },
        "outside": outside,
    }


def _told_of(ticket: TicketFacts, run: str) -> Message:
    """Return what the leader needs to know of a ticket: nothing that changes by itself, and of the run's
    own nothing that only others have to know."""
    said = {name: one for name, one in ticket.items() if name not in _OF_NO_USE}
    return dict(said, aside=ticket["aside"] and ticket["run"] != socket_names.short(run))


def _once(words: Iterable[Message]) -> list[Message]:
    """Return these without repetitions: a ticket that is entered anew is there twice for a moment."""
    found: list[Message] = []
    for one in words:
        if one not in found[-1:]:
            found.append(one)
    return found


def without_times(stand: Message) -> Message:
    """Return how things stand without what changes all the time."""
    leased = {index: one.get("run") for index, one in stand["leased"].items()}
    return dict(stand, leased=leased)


def read(request: GatherRequest, host: str, said: Message, age: float) -> Stand | None:
    """Return how things stand on a host, from what it said so many seconds ago; None if that is not what
    a supervisor says."""
    shared = bool(request.get("ignore_foreign"))
    leased: dict[int, Any] = {}
    try:
        for index, holder in said["leased"].items():
            left = holder.get("left")
            leased[int(index)] = dict(holder, left=None if left is None else left - age)
        return waiting.stand_of(
            request["gpus"][host], leased, said["tickets"], said["outside"], shared, host
        )
    except (ValueError, TypeError, KeyError, IndexError):
        return None
