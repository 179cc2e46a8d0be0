"""A host that waits for a run with others, of which any may lead: its lines, its seat and its vote.

It does what succession.py says. See docs/decisions/0095-succession.md.
"""

from __future__ import annotations

from ...base import protocol
from . import agreement, decisions
from .lines import JOINED, PARTED
from .seat_lines import CAME, LEFT, SeatLines
from .succession import (
    Agreed,
    Elected,
    HangUp,
    Joined,
    Parted,
    Resigned,
    Seat,
)
from .words import fault_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Protocol

    from ...base.messages import GatherRequest, Given, Message
    from .lines import News

    class Owner(Protocol):
        """The host that waits."""

        @property
        def leader(self) -> decisions.Leader | None:
            """What it decides, if it leads."""

        @property
        def is_done(self) -> bool:
            """Whether the run has begun, and all know that."""

        def elected(self, term: decisions.Term, now: float) -> None:
            """Lead from now on."""

        def resigned(self, now: float) -> None:
            """Lead no longer."""

        def joined(self, host: str, now: float) -> None:
            """Note that a host, or the leader, is in touch."""

        def parted(self, host: str, now: float) -> None:
            """Note that it is out of touch."""

        def hear_member(
            self, leader: decisions.Leader, host: str, word: Message, now: float
        ) -> None:
            """Take what a host says to the one that leads."""

        def hear_leader(self, word: Message, now: float) -> None:
            """Do what the leader says."""

        def note_room(self, has_room: bool) -> None:
            """Note whether the disk here could keep what this host agrees to."""

        def end(self, why: str) -> None:
            """End the run here."""


class Electing:
    """The lines of one host, until they are closed. Raises OSError."""

    def __init__(self, request: GatherRequest, here: str, owner: Owner, now: float) -> None:
        gang_spec = request["gang"]
        self.seat = Seat(here, gang_spec.get("voters") or [])
        first, last = request["ports"]
        self.lines = SeatLines(
            gang_spec, here, now, (first, last), self.seat.welcomes, self._is_to_call
        )
        self._owner, self._key, self._here = owner, gang_spec["key"], here
        self._answers_to = ""  # a caller that is spoken to as if it led

    def _is_to_call(self) -> bool:
        return self.seat.is_to_call and not self._owner.is_done

    @property
    def leader(self) -> str:
        """The host that leads, as far as this one knows."""
        if self.seat.leads:
            return self._here
        return self.seat.at if self.seat.is_led else ""

    @property
    def is_enough(self) -> bool:
        """Whether a host leads, and enough are in touch with it."""
        return self.seat.is_led or (self.seat.leads and self.seat.leads_majority)

    # -- for the loop

    def next_look(self) -> float:
        """Return the moment by which to call :meth:`look`."""
        return self.seat.next_tick()

    def look(self, now: float) -> None:
        """Do what is due."""
        self._do(self.seat.tick(now), now)

    def take(self, news: Iterable[News], now: float) -> None:
        """Handle what the lines bring."""
        seat = self.seat
        for kind, host, word in news:
            if kind == CAME:
                self._do(seat.came(host, now), now)
            elif kind == LEFT:
                self._do(seat.left(host, now), now)
            elif kind == JOINED:
                self._do(seat.reached(host, now), now)
            elif kind == PARTED:
                self._do(seat.lost(now), now)
            elif not fault_of(word):
                self._hear(host, word, now)

    def say(self, host: str, word: Message, now: float) -> None:
        """Say something to a host, or to the leader."""
        self.lines.say(host or self._answers_to, word, now)

    # -- this host's vote

    def agree(self, number: int, way: int, given: Mapping[str, Given]) -> bool:
        """Agree that the run begins so, and keep that on the disk; return whether this host does."""
        if not self.seat.may_agree(number):
            return False
        done = agreement.keep(self._key, list(given))
        self._owner.note_room(done)
        if done:
            self.seat.agreed = Agreed(number, way, given)
        return done

    def withdraw(self, number: int) -> None:
        """Note that nothing begins in a round of this number, nor in one before."""
        if self.seat.withdraw(number):
            agreement.forget()

    def begun(self, number: int, way: int, given: Mapping[str, Given]) -> None:
        """Note that the run has begun, as the journal says."""
        self.seat.begins(Agreed(number, way, given))
        agreement.forget()

    def stand_back(self, now: float) -> None:
        """Lead no longer."""
        self._do(self.seat.resign(), now)

    # -- words

    def _hear(self, host: str, word: Message, now: float) -> None:
        owner, seat = self._owner, self.seat
        if "seats" in word:
            self.lines.learn(word["seats"], now)
        follows = host == seat.at and seat.follows
        if seat.begun and not owner.leader and not follows:
            self._hear_begun(host, seat.begun, word, now)
        elif host == seat.at:
            self._hear_called(word, now)
        else:
            self._do(seat.heard_caller(host, word, now), now)
            self._hear_caller(host, word, now)

    def _hear_begun(self, host: str, begun: Agreed, word: Message, now: float) -> None:
        """Take the answer of a host that was told of the start."""
        if word.get("begun") == begun.number:
            self.lines.say(host, {"known": begun.number}, now)
        if word.get("lapsed") == begun.number:
            self._owner.end(protocol.HOSTS_PARTED)
        if "known" in word:
            self._owner.hear_leader({"known": word["known"]}, now)

    def _hear_called(self, word: Message, now: float) -> None:
        self._do(self.seat.heard(word, now), now)
        if "agree" in word and self.seat.follows:
            number = word["agree"]
            done = self.agree(number, word.get("way", 0), word["given"])
            self.lines.say("", {"agreed" if done else "disagreed": number}, now)
            return
        if "release" in word:
            self.withdraw(word["release"])
        self._owner.hear_leader(word, now)

    def _hear_caller(self, host: str, word: Message, now: float) -> None:
        leader = self._owner.leader
        is_told = "begun" in word and ("over" in word or "begin" in word)
        if is_told and not (leader and leader.phase == decisions.BEGUN):
            self.stand_back(now)
            self._answers_to = host
            try:
                self._owner.hear_leader(word, now)
            finally:
                self._answers_to = ""
        elif leader:
            self._owner.hear_member(leader, host, word, now)

    # -- what succession.py says

    def _do(self, instructions: Iterable[object], now: float) -> None:
        owner = self._owner
        for one in instructions:
            if isinstance(one, decisions.Send):
                self.lines.say(one.host, one.word, now)
            elif isinstance(one, HangUp):
                self.take(self.lines.hang_up(one.host, one.is_caller, now), now)
            elif isinstance(one, Elected):
                hosts = list(one.agreed.given) if one.agreed else ()
                term = decisions.Term(one.first, self.seat.is_majority, hosts)
                owner.elected(term, now)
            elif isinstance(one, Resigned):
                owner.resigned(now)
            elif isinstance(one, Joined):
                owner.joined(one.host, now)
            elif isinstance(one, Parted):
                owner.parted(one.host, now)
