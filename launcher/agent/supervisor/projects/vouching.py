"""Believes of a ticket that a quota covers its run only where this host sees that."""

from __future__ import annotations

from ...host import projects, socket_names
from . import quotas
from .council import Member, rules_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...base.messages import ProjectRule, TicketFacts


def vouched(
    tickets: Sequence[TicketFacts], rules: Mapping[str, ProjectRule] | None
) -> list[TicketFacts]:
    """Return tickets without claims of a quota that is not their user's; as they are without ``rules``,
    which earlier launchers do not send."""
    if rules is None or not any(one.get("within") for one in tickets):
        return list(tickets)
    try:
        members = [Member(one) for one in projects.members(socket_names.seen())]
    except OSError:  # nobody can tell
        members = []
    known = quotas.vouched(rules_of(rules), members)
    found: list[TicketFacts] = []
    for one in tickets:
        within = bool(one.get("within")) and (one["run"], one.get("user") or "?") in known
        found.append({**one, "within": within})
    return found
