"""A run's part in its project on this host: it shows what it uses, and gives GPUs back when it must.

Nobody can signal the processes of another user. So a run that takes GPUs back asks by the name of a
socket, whose user the kernel knows, and the supervisor of the run that has them checks the rule itself.
See docs/decisions/0066-projects.md.
"""

from __future__ import annotations

from ...host import lookout, projects, socket_names, tickets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ...base.lean import Socket
    from ...base.messages import (
        MemberFacts,
        MemberRequest,
        ProjectRule,
        TakeFacts,
        TicketFacts,
    )

_LIMIT = projects.HELD["l"]


class Member:
    """What a run is in its project, until it is closed. Raises OSError."""

    def __init__(self, run: str, request: MemberRequest, wall: float) -> None:
        self.request = request
        self._run = run
        flags = projects.PREEMPTIBLE if request.get("preemptible") else ""
        flags += projects.WITHIN if request.get("within") else ""
        self._claim: Socket = projects.enter(run, request["project"], request["gpus"], flags, wall)
        self._from: float | None = None  # when it may have to give its GPUs back
        self.next_look = float("inf")

    @property
    def sockets(self) -> list[Socket]:
        """Those that others may connect to."""
        return [self._claim]

    def begin(self, now: float) -> None:
        """Note that its processes start now."""
        if self.request.get("preemptible"):
            self._from = now + (self.request.get("min_runtime") or 0.0)
            self.next_look = self._from

    def look(self, now: float) -> MemberFacts | None:
        """Return the run that takes the GPUs back, if one asks and may."""
        if self._from is None or now < self.next_look:
            return None
        self.next_look = now + lookout.LOOK
        seen = socket_names.seen()
        asked = projects.takes(seen, self._run)
        if not asked:
            return None
        rules = self.request.get("rules") or {}
        try:
            there = projects.members(seen)
        except OSError:  # nobody can tell who has what
            return None
        return who_takes(asked, rules, there, tickets.read(seen))

    def close(self) -> None:
        """Use nothing more in its name."""
        self._claim.close()
        self.next_look = float("inf")


def who_takes(
    asked: Iterable[TakeFacts],
    rules: Mapping[str, ProjectRule],
    members: Iterable[MemberFacts],
    waiting: Iterable[TicketFacts],
) -> MemberFacts | None:
    """Return the run for which a preemptible one has to give its GPUs back: one that waits here with a
    ticket of the user who asks, in the name of a project of that user's, within its quota as far as this
    host can see. One that stands aside could not begin with them, unless it does so for the limit of its
    project, which they are part of. Pure."""
    by_sum = {(one["user"], one["sum"]) for one in asked}
    there = list(members)
    covered = [one for one in waiting if one.get("within")]
    tickets_of = {(one.get("user"), one["run"]) for one in covered}
    before_others = {(one.get("user"), one["run"]) for one in covered if not one["aside"]}
    for one in there:
        rule = rules.get(one["project"])
        if (
            rule is None
            or not one["waits"]
            or not one["within"]
            or one["user"] not in rule["users"]
        ):
            continue
        if (one["user"], projects.sum_of(one["run"])) not in by_sum:
            continue
        able = tickets_of if one["held"] == _LIMIT else before_others
        if (one["user"], one["run"]) not in able:
            continue
        used = sum(
            other["gpus"]
            for other in there
            if other["project"] == one["project"]
            and not other["waits"]
            and not other["preemptible"]
            and other["user"] in rule["users"]
        )
        if used + one["gpus"] <= rule["quota"]:
            return one
    return None
