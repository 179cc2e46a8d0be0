"""What a host does of a run that waits on several, where another one leads. Pure. See decisions.py."""

from __future__ import annotations

from .decisions import BEGUN, CLAIMING, FORSAKEN, HOLD, WAITING, Begin, Claim, Release, Send, Stop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...base.messages import Given, Message
    from ..turns import Value


class Member:
    """Any other host of the run: it does what the leader says."""

    def __init__(self, now: float) -> None:
        self.phase = WAITING
        self.has_met = self.is_done = (
            False  # all hosts have met; the leader knows that this one began
        )
        self._number = 0
        self._until = 0.0
        self._alone_since: float | None = now

    # -- questions

    @property
    def is_alone(self) -> bool:
        """Whether the leader is not in touch."""
        return self._alone_since is not None

    def is_forsaken(self, now: float) -> bool:
        """Whether the run could not begin even if its GPUs were free."""
        return self._alone_since is not None and now >= self._alone_since + FORSAKEN

    def next_tick(self, now: float) -> float:
        """Return the moment by which to call :meth:`tick`, if nothing happens before."""
        moments = [self._until] if self.phase == CLAIMING else []
        if self.phase != BEGUN and self._alone_since is not None:
            moments.append(self._alone_since + FORSAKEN)
        return min([one for one in moments if one > now], default=float("inf"))

    # -- the leader

    def joined(self, now: float) -> list[Value]:
        """Note that the leader is in touch."""
        self._alone_since = None
        return [Send("", {"begun": self._number})] if self.phase == BEGUN else []

    def parted(self, now: float) -> None:
        """Note that it is not. It may have begun: what it has claimed here stays so for a while."""
        self._alone_since = now

    def void(self) -> None:
        """Note that nothing is claimed here any more."""
        self.phase = WAITING if self.phase == CLAIMING else self.phase

    def heard(self, word: Message, now: float) -> list[Value]:
        """Do what the leader says."""
        if "over" in word:
            return [Stop(str(word["over"]))]
        if self.phase == BEGUN:
            return self._heard_late(word)
        if "met" in word:
            self.has_met = True
        if "claim" in word:
            return [*self._release(), Claim(word["claim"], word["gpus"], word.get("way", 0))]
        if "release" in word:
            return self._release()
        if "begin" in word:
            if self.phase == CLAIMING and word["begin"] == self._number:
                return [Begin(self._number, word["given"], word.get("way", 0))]
            return [Send("", {"lapsed": word["begin"]})]
        return []

    def _heard_late(self, word: Message) -> list[Value]:
        """Answer a leader that does not know yet that this host has begun."""
        if word.get("known") == self._number:
            self.is_done = True
        return [Send("", {"begun": self._number})] if word.get("begin") == self._number else []

    # -- what was done here

    def held(self, number: int, given: Given, now: float, port: int = 0) -> list[Value]:
        """Note what this host has claimed; the ``port`` where it listens, if it is to lead later."""
        self.phase, self._number, self._until = CLAIMING, number, now + HOLD
        word = {"held": number, "names": given["names"], "ports": given["ports"]}
        return [Send("", {**word, **({"port": port} if port else {})})]

    def refused(self, number: int, now: float) -> list[Value]:
        """Note that somebody was quicker on this host."""
        return [Send("", {"refused": number})]

    def begun(self, number: int, now: float) -> list[Value]:
        """Note that the run has begun here."""
        self.phase = BEGUN
        return [Send("", {"begun": number})]

    def could_not(self, number: int, now: float) -> list[Value]:
        """Note that this host cannot begin after all."""
        return [*self._release(), Send("", {"lapsed": number})]

    def over(self, why: str) -> list[Value]:
        """Tell the leader that the run is over, unless the run's own lines do."""
        return [] if self.phase == BEGUN else [Send("", {"over": why})]

    def run(self) -> None:
        """Note that the run was begun by its launcher."""
        self.phase, self.is_done = BEGUN, True

    def dismiss(self) -> list[Value]:
        """Nobody else waits for this host."""
        return []

    # -- time

    def tick(self, now: float) -> list[Value]:
        """Do what is due."""
        return self._release() if self.phase == CLAIMING and now >= self._until else []

    def _release(self) -> list[Value]:
        claimed, self.phase = self.phase == CLAIMING, WAITING
        return [Release()] if claimed else []
