"""Decides which host leads a run that waits on several, when the one that did is out of reach. Pure.

Each host that waits for the run is a voter, and has a seat: their order in the request. A voter is in
touch with one other at a time, which leads or may do so, and that has to have the lower seat. Who has a
majority takes a new *term*, and leads once these have promised to follow nobody of an earlier one.

The leader begins the run only once a majority has *agreed* on that, each on its disk (decisions.py). A
voter tells of that with its promise. So the next leader knows of a start that may have happened, and
begins nothing until the hosts that were to start have said that they did not. See
docs/decisions/0095-succession.md.

Methods report what has happened and return instructions.
"""

from __future__ import annotations

from ...base import protocol
from ..turns import Value
from .decisions import Send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ...base.messages import Given, Message

#: Fewest voters: of two, none is a majority.
FEWEST = 3
#: Seconds without a majority until a leader stands back.
RESIGNS = 5.0
#: Seconds that a voter stays at a host that does not lead yet; more, the higher its seat.
SITS, MORE = 6.0, 1.0
#: Numbers of a leader's rounds grow with its term: so many fit into one.
ROUNDS = 1 << 32


class Agreed(Value):
    """What a voter has agreed to: in the round of this number the run begins this ``way``, and
    ``given`` is what each host of it has."""

    __slots__ = ("given", "number", "way")

    def __init__(self, number: int, way: int, given: Mapping[str, Given]) -> None:
        self.number, self.way, self.given = number, way, dict(given)

    def word(self) -> Message:
        """Return how it is said."""
        return {"number": self.number, "way": self.way, "given": self.given}


class Elected(Value):
    """This host leads from now on. What was ``agreed`` before may have happened."""

    __slots__ = ("agreed", "term")

    def __init__(self, term: int, agreed: Agreed | None) -> None:
        self.term, self.agreed = term, agreed

    @property
    def first(self) -> int:
        """The number before those of its rounds."""
        return self.term * ROUNDS


class Resigned(Value):
    """This host leads no longer."""


class Joined(Value):
    """A host follows this one; or this one follows the leader, where there is no name."""

    __slots__ = ("host",)

    def __init__(self, host: str) -> None:
        self.host = host


class Parted(Value):
    """It does no longer."""

    __slots__ = ("host",)

    def __init__(self, host: str) -> None:
        self.host = host


class HangUp(Value):
    """End the line to the host that this one called, or to a caller."""

    __slots__ = ("host", "is_caller")

    def __init__(self, host: str, is_caller: bool = False) -> None:
        self.host, self.is_caller = host, is_caller


def agreed_of(said: Mapping[str, Any] | None) -> Agreed | None:
    """Return what a word says of a start."""
    return Agreed(said["number"], said["way"], said["given"]) if said else None


class Seat:
    """The part of one voter. ``agreed`` is what it has agreed to, and ``begun`` what has begun here."""

    def __init__(self, here: str, voters: Sequence[str]) -> None:
        self.leads = False
        self.at = ""  # the host that it is in touch with, and which leads or may do so
        self.follows = False  # it has promised to follow that one
        self.is_led = False  # and that one leads
        self.agreed: Agreed | None = None
        self.begun: Agreed | None = None
        self._here, self._seats = here, {host: seat for seat, host in enumerate(voters)}
        self._promised, self._promised_to = 0, here  # the term, and who leads in it
        self._asked = 0  # the term that others are asked to promise
        self._known: dict[str, Agreed | None] = {}  # by those who promised, what they had agreed to
        self._callers: set[str] = set()
        self._leaves_at = self._resigns_at = float("inf")

    # -- questions

    @property
    def stands(self) -> bool:
        """Whether it would lead, if enough hosts came."""
        return not self.at and not self.leads and self.begun is None

    @property
    def is_to_call(self) -> bool:
        """Whether it has to find who leads."""
        return not self.at and not self.leads

    def is_majority(self, hosts: Iterable[str]) -> bool:
        """Return whether these are more than half of all voters."""
        return 2 * len(self._seats.keys() & set(hosts)) > len(self._seats)

    def welcomes(self, host: str) -> bool:
        """Return whether a caller is let in: one that has the higher seat, or any where this host leads.
        Where the run has begun, each is, to be told that."""
        if self.leads or self.begun:
            return True
        mine, other = self._seats[self._here], self._seats.get(host, -1)
        return not self.at and other > mine

    def next_tick(self) -> float:
        """Return the moment by which to call :meth:`tick`."""
        return min(self._leaves_at, self._resigns_at)

    # -- lines

    def came(self, host: str, now: float) -> list[Value]:
        """Note that a caller was let in."""
        self._callers.add(host)
        if self.begun:
            return [self._announce(host, self.begun)]
        if self.leads and host not in self._seats:
            return [Joined(host)]
        if self.leads:
            return [Send(host, {"lead": self._asked})]
        return self._ask(now)

    def left(self, host: str, now: float) -> list[Value]:
        """Note that a caller is gone."""
        self._callers.discard(host)
        was_there = host in self._known
        self._known.pop(host, None)
        if not self.leads:
            return self._ask(now) if was_there else []
        if not self.leads_majority and not self.begun:
            self._resigns_at = min(self._resigns_at, now + RESIGNS)
        return [Parted(host)] if was_there or host not in self._seats else []

    def reached(self, host: str, now: float) -> list[Value]:
        """Note that a host has let this one in: its own callers have to go there, too."""
        if self.begun:
            self.at = host
            return [self._announce(host, self.begun)]
        if self.leads:
            return [HangUp(host)]
        self.at, self.follows, self.is_led = host, False, False
        self._sit(now)
        return self._dismiss()

    def lost(self, now: float) -> list[Value]:
        """Note that the line to that host is gone."""
        did, self.at, self.follows, self.is_led = self.is_led, "", False, False
        self._leaves_at = float("inf")
        return [Parted("")] if did else []

    def _sit(self, now: float) -> None:
        self._leaves_at = now + SITS + MORE * self._seats[self._here]

    def _dismiss(self) -> list[Value]:
        gone = sorted(self._callers)
        self._callers, self._known, self._asked = set(), {}, 0
        return [HangUp(host, True) for host in gone]

    # -- words

    def heard_caller(self, host: str, word: Message, now: float) -> list[Value]:
        """Take what a caller says of terms."""
        if self.begun or host not in self._callers:
            return []
        later = word.get("promised")
        if later is not None and later >= max(self._asked, self._promised):
            self._promised, self._promised_to = later, ""
            out = self._resign() if self.leads else []
            self._asked = 0
            return [*out, *self._ask(now)]
        if word.get("promise") != self._asked or not self._asked:
            return []
        is_new = host not in self._known
        self._known[host] = agreed_of(word.get("before"))
        if self.leads:
            if self.leads_majority:
                self._resigns_at = float("inf")
            return [self._leads_word(host), Joined(host)] if is_new else []
        if not self.leads_majority:
            return []
        self.leads, self._resigns_at = True, float("inf")
        before = [self.agreed, *self._known.values()]
        last = max((one for one in before if one), key=lambda one: one.number, default=None)
        there = sorted(self._known)
        said = [self._leads_word(host) for host in there]
        return [*said, Elected(self._asked, last), *map(Joined, there)]

    def _leads_word(self, host: str) -> Send:
        return Send(host, {"leads": self._asked})

    def heard(self, word: Message, now: float) -> list[Value]:
        """Take what the host says of terms that this one is in touch with."""
        term = word.get("lead")
        if word.get("leads") == self._promised and self.follows and not self.is_led:
            self.is_led, self._leaves_at = True, float("inf")
            return [Joined("")]
        if term is None or not self.at:
            return []
        if self.begun:
            return [self._announce(self.at, self.begun)]
        if (term, self.at) != (self._promised, self._promised_to) and term <= self._promised:
            return [Send(self.at, {"promised": self._promised})]
        did, self.follows, self.is_led = self.is_led, True, False
        self._promised, self._promised_to = term, self.at
        self._sit(now)
        before = {"before": self.agreed.word()} if self.agreed else {}
        promise = Send(self.at, {"promise": term, **before})
        return [promise, *([Parted("")] if did else [])]

    def may_agree(self, number: int) -> bool:
        """Return whether this host may agree to the start of a round: it has promised no later term."""
        mine = self.leads or self.follows
        return mine and number // ROUNDS == self._promised and self.begun is None

    def withdraw(self, number: int) -> bool:
        """Note that nothing begins in a round of this number, nor in one before; return whether this
        host had agreed to that."""
        if self.agreed is None or self.agreed.number > number:
            return False
        self.agreed = None
        return True

    def begins(self, begun: Agreed) -> None:
        """Note that the run has begun this way: from now on this host tells everybody that."""
        self.begun, self.agreed = begun, None
        self._leaves_at = self._resigns_at = float("inf")

    # -- time

    def tick(self, now: float) -> list[Value]:
        """Do what is due."""
        if self.leads and now >= self._resigns_at:
            return self._resign()
        if self.at and now >= self._leaves_at:
            self._leaves_at = float("inf")
            return [HangUp(self.at)]
        return []

    def resign(self) -> list[Value]:
        """Lead no longer."""
        return self._resign() if self.leads else []

    # -- terms

    @property
    def leads_majority(self) -> bool:
        """Whether most have promised to follow this host."""
        return self.is_majority([self._here, *self._known])

    def _ask(self, now: float) -> list[Value]:
        """Ask all who have come to promise a term, if they are a majority."""
        there = sorted(self._callers & self._seats.keys())
        if not self.stands or not self.is_majority([self._here, *there]):
            self._asked, self._known = 0, {}
            return []
        if not self._asked:
            self._asked = self._promised = self._promised + 1
            self._promised_to, self._known = self._here, {}
        asked = [host for host in there if host not in self._known]
        return [Send(host, {"lead": self._asked}) for host in asked]

    def _resign(self) -> list[Value]:
        self.leads, self._resigns_at = False, float("inf")
        return [Resigned(), *self._dismiss()]

    def _announce(self, host: str, begun: Agreed) -> Send:
        """Tell a host that the run has begun: what it starts, or that it is not needed."""
        if host not in begun.given:
            return Send(host, {"over": protocol.NOT_NEEDED, "begun": begun.number})
        word = {"begin": begun.number, "way": begun.way, "given": begun.given}
        return Send(host, dict(word, begun=begun.number))
