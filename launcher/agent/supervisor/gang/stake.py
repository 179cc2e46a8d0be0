"""What a waiting run has in its project on one host: what it shows, and what its leader asks for.

See council.py for how the leader decides."""

from __future__ import annotations

from ...host import projects
from ..projects.clerk import Clerk
from ..projects.round_steps import ENTER
from . import decisions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ...base.lean import Socket
    from ...base.messages import GangProject, MemberRequest, Message

    class Hands(Protocol):
        """The supervisor."""

        def join(self, request: MemberRequest) -> bool:
            """Use GPUs in the name of a project; return False if that cannot be shown."""

        def leave_project(self) -> None:
            """Use none any more."""


#: How the run stands before its leader has said that.
UNKNOWN: Message = {"within": 0, "held": "", "takes": []}
_LETTERS = {why: letter for letter, why in projects.HELD.items()}


class Stake:
    """What a run has in its project here, until it is closed."""

    def __init__(self, run: str, project: GangProject, hands: Hands, now: float) -> None:
        self.standing = UNKNOWN  # as the leader says
        self._run, self._project, self._hands = run, project, hands
        users = [user for rule in project["rules"].values() for user in rule["users"]]
        self._clerk = Clerk(run, now, users)
        self._entered: float | None = None  # until when, unless the run begins
        self._beside: list[Socket] = []
        self._shown: tuple[object, ...] = ()  # what these say

    @property
    def has_entered(self) -> bool:
        """Whether this host shows that the run uses GPUs."""
        return self._entered is not None

    @property
    def is_held(self) -> bool:
        """Whether a rule of its project holds the run back."""
        return bool(self.standing["held"])

    @property
    def next_look(self) -> float:
        """The moment by which to call :meth:`look`, if nothing happens before."""
        return self._clerk.next_look

    # -- the leader

    def joined(self, now: float) -> None:
        """Note that the leader is in touch: it may know nothing."""
        self._clerk.joined(now)

    def forsaken(self) -> None:
        """Ask nobody for GPUs, and claim no quota: nobody leads the run."""
        self.standing = UNKNOWN

    def hear(self, ask: Message, now: float) -> list[Message]:
        """Do what the leader asks; return the answer, unless it comes later."""
        if ask["do"] != ENTER:
            return self._clerk.hear(ask, now)
        done = self._enter(ask, now)
        return [{"answer": {"round": ask["round"], "do": ENTER, "done": int(done)}}]

    def look(self, now: float, is_waiting: bool) -> list[Message]:
        """Do what is due; return what to tell the leader. What was shown goes where nothing follows."""
        if is_waiting and self._entered is not None and now >= self._entered:
            self._leave()
        return self._clerk.look(now) if now >= self._clerk.next_look else []

    def _enter(self, ask: Message, now: float) -> bool:
        self._entered = None
        done = self._hands.join(
            {
                "project": self._project["name"],
                "gpus": ask["gpus"],
                "preemptible": self._project.get("preemptible") or 0,
                "within": ask.get("within") or 0,
                "min_runtime": self._project.get("min_runtime") or 0.0,
                "rules": self._project["rules"],
            }
        )
        if done:
            self._entered = now + decisions.HOLD
        return done

    def _leave(self) -> None:
        if self._entered is not None:
            self._entered = None
            self._hands.leave_project()

    # -- what becomes of the run

    def release(self) -> None:
        """Let go of all that was for a start: the run does not begin now."""
        self._leave()
        self._clerk.release()

    def begun(self) -> None:
        """Keep what was shown and written: the run has begun."""
        self._entered = None
        self.leave_queue()

    def leave_queue(self) -> None:
        """Wait no more."""
        for one in self._beside:
            one.close()
        self._beside, self._shown = [], ()
        self._clerk.close()

    def close(self) -> None:
        """Have nothing more to do with it."""
        self._leave()
        self.leave_queue()

    # -- the queue

    def of_ticket(self) -> Message:
        """Return what the run's ticket says more."""
        within, held = bool(self.standing["within"]), self.standing["held"]
        flags = projects.WAITS
        flags += projects.PREEMPTIBLE if self._project.get("preemptible") else ""
        flags += projects.WITHIN if within else ""
        flags += _LETTERS.get(held, "")
        name, gpus = self._project["name"], self._project["gpus"]
        member = {"project": name, "gpus": gpus, "flags": flags}
        return {"within": within, "member": member, "takes": self.standing.get("takes") or []}

    def show(self, ticket: Message) -> None:
        """Show what goes beside the ticket."""
        wanted = (ticket["member"], ticket["takes"])
        if wanted == self._shown:
            return
        for one in self._beside:
            one.close()
        self._beside, self._shown = projects.beside(self._run, ticket), wanted
