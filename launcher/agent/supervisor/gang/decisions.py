"""Decides what the supervisors of a run that waits on several hosts tell each other, and do. Pure.

The first host leads. It alone decides, also on which hosts the run begins where it may choose. It asks
these to claim, and begins once all hold their GPUs and ports. It writes that down before it tells
anybody: whoever asks the leader knows whether the run has begun. See docs/decisions/0070-hosts-meet.md
and docs/decisions/0082-hosts-choose.md. A run with a project begins once its council allows that,
too: see council.py.

Methods report what has happened and return instructions. ``now`` is a moment of one monotonic clock of
this host; no clock of another one counts.
"""

from __future__ import annotations

from ...base import protocol
from ..turns import SETTLE, Value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any, Optional

    from ...base.messages import Given, Message
    from ..projects.council import Council, Words
    from .any_of import AnyOf

    #: What the run may claim now, from how things stand on hosts; None while it has to wait.
    Decide = Callable[[Mapping[str, Any]], Optional["Turn"]]

#: Seconds for all hosts to claim.
PATIENCE = 30.0
#: Seconds for all hosts to say that they have begun; then the run is over.
ANSWER = 45.0
#: Seconds for which a host keeps what it has claimed, if it hears nothing. In that time the leader has
#: begun, or not, and has given up whoever did not answer: it is more than both of the above.
HOLD = 90.0
#: Seconds without the others until the run holds nobody back: it could not begin.
FORSAKEN = 5.0
#: Seconds for all hosts to be in touch, before a run that does not need them all begins without some.
GATHER = 5.0
#: Seconds until the leader tries again where somebody was quicker; and where too few disks have room to
#: agree to a start: until then it locks nothing that would wake others.
PAUSE, NO_ROOM = 0.5, 5.0

WAITING, DECIDING, CLAIMING, AGREEING, BEGUN = (
    "waiting",
    "deciding",
    "claiming",
    "agreeing",
    "begun",
)


class Turn(Value):
    """The GPUs of each host that the run may claim: those of the ``way`` of this number to run it."""

    __slots__ = ("gpus", "way")

    def __init__(self, way: int, gpus: Mapping[str, Sequence[int]]) -> None:
        self.way, self.gpus = way, {host: list(some) for host, some in gpus.items()}


class Send(Value):
    """Say something to another host; to the leader where there is no name."""

    __slots__ = ("host", "word")

    def __init__(self, host: str, word: Message) -> None:
        self.host, self.word = host, word


class Claim(Value):
    """Lock these GPUs and hold ports, for this way to run; answer with ``held`` or ``refused``."""

    __slots__ = ("gpus", "number", "way")

    def __init__(self, number: int, gpus: Sequence[int], way: int = 0) -> None:
        self.number, self.gpus, self.way = number, list(gpus), way


class Release(Value):
    """Let go of all that was claimed."""


class Agree(Value):
    """Keep on the disk that the run may begin this ``way`` from now on; answer with ``agreed``."""

    __slots__ = ("given", "number", "way")

    def __init__(self, number: int, given: Mapping[str, Given], way: int = 0) -> None:
        self.number, self.given, self.way = number, dict(given), way


class StandBack(Value):
    """Lead no longer: nobody has said that the run has begun."""


class Begin(Value):
    """Begin on what was claimed here; ``given`` is what each host has of this way to run. Answer with
    ``begun`` or ``could_not``. A host that is not among them only writes down that the run has begun."""

    __slots__ = ("given", "number", "way")

    def __init__(self, number: int, given: Mapping[str, Given], way: int = 0) -> None:
        self.number, self.given, self.way = number, dict(given), way


class Stop(Value):
    """End the run here, because of ``why``."""

    __slots__ = ("why",)

    def __init__(self, why: str) -> None:
        self.why = why


class _Listed:
    """The hosts of each way, one by one; without any, there is one on all hosts."""

    def __init__(self, ways: Collection[Collection[str]], every: Collection[str]) -> None:
        self._ways = [frozenset(way) for way in ways or [every]]
        self.hosts = frozenset().union(*self._ways)
        self.most = max(map(len, ways), default=0)

    def suffice(self, there: Collection[str]) -> bool:
        return any(way <= set(there) for way in self._ways)


class Term:
    """What a leader knows that was elected: the number before those of its rounds, whether some hosts
    are more than half of those that vote, and the hosts of a start that may have happened before."""

    def __init__(
        self, first: int, is_majority: Callable[[Iterable[str]], bool], unsure: Iterable[str]
    ) -> None:
        self.first, self.is_majority, self.unsure = first, is_majority, tuple(unsure)


class Leader:
    """The first host of a run: it decides for all. The run takes one of several ``ways``, each the hosts
    that it would have then; without any, all of them. Some of the others may be in none of them. A
    ``council`` decides about the project of a run that has one. If the run ``may_return`` to the queue,
    those that only decide rest once it has begun. Where it was elected for a ``term``, it begins once
    most of those that vote have agreed."""

    def __init__(  # noqa: PLR0913 - all that it decides by
        self,
        here: str,
        others: Iterable[str],
        decide: Decide,
        now: float,
        ways: list[Any] | tuple[Any, ...] | AnyOf = (),
        council: Council | None = None,
        may_return: bool = False,
        term: Term | None = None,
    ) -> None:
        self.phase = WAITING
        self._is_majority = term.is_majority if term else None
        self._unsure = frozenset(term.unsure if term else ())
        self._is_sure = True  # somebody has said that it has begun, or it is this host that does
        self._agreed: set[str] = set()
        self._disagreed: set[str] = set()
        self._council, self._may_return = council, may_return
        self.has_met = False  # enough have been in touch at once
        self._here, self._others, self._decide = here, tuple(others), decide
        self._ways = (
            _Listed(ways, [here, *self._others]) if isinstance(ways, (list, tuple)) else ways
        )
        self._waits_on = frozenset([here, *self._ways.hosts])  # the others only decide
        self._largest = self._ways.most  # an elastic run may begin on fewer
        self._settled: float | None = None  # from when on it does
        self._in_touch: set[str] = set()
        self._stands: dict[str, Any] = {}
        self._number = term.first if term else 0  # of the last round of claims
        self._turn = Turn(0, {})  # what that round is for
        self._held: dict[str, Given] = {}
        self._ports: dict[str, int] = {}  # where a host would listen, if it is to lead later
        self.later: Message | None = None  # how the others find that one, if it is not this host
        self._begun: set[str] = set()
        self._until = self._not_before = now
        self._is_news, self._alone_since, self._gathers_until = False, now, now + GATHER
        self._over = ""

    # -- questions

    @property
    def missing(self) -> list[str]:
        """The hosts that are not in touch."""
        return [host for host in self._others if host not in self._in_touch]

    @property
    def is_done(self) -> bool:
        """Whether all hosts of the run have begun, so that there is nothing left to say."""
        return self.phase == BEGUN and self._begun == set(self._chosen)

    @property
    def way(self) -> int:
        """The number of the way that the last round was for."""
        return self._turn.way

    @property
    def takes_part(self) -> bool:
        """Whether this host is one of those that the last round was for."""
        return self._here in self._turn.gpus

    def is_forsaken(self, now: float) -> bool:
        """Whether the run could not begin even if its GPUs were free."""
        return not self._suffice and now >= self._alone_since + FORSAKEN

    def next_tick(self, now: float) -> float:
        """Return the moment by which to call :meth:`tick`, if nothing happens before."""
        if self.phase == WAITING:
            moments = [self._not_before] if self._is_news else []
            moments += [] if self._suffice else [self._alone_since + FORSAKEN]
            moments += [self._gathers_until] if self._suffice and not self.has_met else []
            return min([one for one in moments if one > now], default=float("inf"))
        if self.phase == DECIDING and self._council and self._council.round:
            return self._council.round.next_tick()
        return float("inf") if self.is_done or self._over else self._until

    def port_of(self, host: str) -> int:
        """Return where a host listens that is to lead once GPUs were given back; 0: nowhere."""
        return self._ports.get(host, 0)

    @property
    def _keeps(self) -> bool:
        """Whether the others have to stay, as the run may return to the queue."""
        return self._may_return and (self.takes_part or self.later is not None)

    @property
    def _suffice(self) -> bool:
        """Whether those in touch suffice for the run."""
        able = self._ways.suffice(self._there) and not self._unsure
        return able and (self._is_majority is None or self._is_majority(self._there))

    @property
    def _there(self) -> list[str]:
        return [self._here, *self._in_touch]

    @property
    def number(self) -> int:
        """That of the last round."""
        return self._number

    @property
    def unsure(self) -> list[str]:
        """The hosts out of touch on which the run may have begun before this one led."""
        return sorted(self._unsure.difference(self._there))

    @property
    def _chosen(self) -> list[str]:
        """The other hosts that the last round was for."""
        return [host for host in self._others if host in self._turn.gpus]

    # -- other hosts

    def joined(self, host: str, now: float) -> list[Value]:
        """Note that a host is in touch. What it has claimed before is void, unless the run has begun."""
        self._in_touch.add(host)
        if self._over:
            return [Send(host, {"over": self._over})]
        if self.phase == BEGUN:
            is_due = host not in self._begun and (self._is_sure or host in self._turn.gpus)
            return [self._tell_begin(host)] if is_due else []
        if self._unsure:
            return self.opened(now)
        is_open = self.phase in (CLAIMING, AGREEING)  # that round may still begin
        void = Send(host, {"release": self._number - is_open})
        if self.has_met:
            return [void, Send(host, {"met": 1})]
        return [void, *self._meet(now)]

    def opened(self, now: float) -> list[Value]:
        """Begin the term: what was claimed before is void, once it is sure that nobody has begun."""
        if not self._unsure.issubset(self._there):
            return []
        self._unsure = frozenset()
        return [Release(), *self.tell({"release": self._number}), *self._meet(now)]

    def parted(self, host: str, now: float) -> list[Value]:
        """Note that a host is out of touch."""
        did = self._suffice
        self._in_touch.discard(host)
        self._stands.pop(host, None)
        if did and not self._suffice:
            self._alone_since = now
        if self._council:
            self._council.parted(host)
            if not self._suffice:
                self._council.ask_nobody()
        if self.phase in (CLAIMING, AGREEING) and host in self._turn.gpus:
            return self._give_up(now)
        if self._council:
            self._is_news = True
            return self._advised(self._council.lost(host, now), now)
        return []

    def saw(self, host: str, stand: Any) -> None:
        """Note how things stand on a host: on this one, too. It decides at the next tick."""
        self._stands[host] = stand
        self._is_news = True

    def learned(self) -> None:
        """Note that something is new of projects. It decides at the next tick."""
        self._is_news = True

    def heard(self, host: str, word: Message, now: float) -> list[Value]:
        """Take the answer of a host.

        A claim that it hears of too late, because it stood still, is void: its host may have let go.
        """
        if "answer" in word:
            if self._council is None or self.phase != DECIDING:
                return []
            return self._advised(self._council.heard(host, word["answer"], now), now)
        if self.phase in (CLAIMING, AGREEING) and now >= self._until:
            late = self._give_up(now)
            is_void = "held" in word or "agreed" in word
            return late if is_void else [*late, *self.heard(host, word, now)]
        if self._number in (word.get("agreed"), word.get("disagreed")):
            vote = self.disagreed if "disagreed" in word else self.agreed
            return vote(host, self._number, now)
        claims = self.phase in (CLAIMING, AGREEING) and host in self._turn.gpus
        if self.phase == CLAIMING and claims and word.get("held") == self._number:
            return [] if host in self._held else self._hold(host, word, now)
        if claims and word.get("refused") == self._number:
            return self._give_up(now)
        if self.phase == BEGUN and word.get("begun") == self._number:
            self._begun.add(host)
            known = Send(host, {"known": self._number})
            return [known] if self._is_sure else [known, *self._made_sure()]
        if self.phase == BEGUN and word.get("lapsed") == self._number and not self._over:
            return [Stop(protocol.HOSTS_PARTED)]
        needed = host in (self._turn.gpus if self.phase == BEGUN else self._waits_on)
        if needed and "over" in word and not self._over:
            return [Stop(str(word["over"]))]
        return []

    # -- what was done here

    def held(self, number: int, given: Given, now: float, port: int = 0) -> list[Value]:
        """Note what this host has claimed: now the others do."""
        self._held = {self._here: given}
        return self._ask_others() or self._agree(now)

    def refused(self, number: int, now: float) -> list[Value]:
        """Note that somebody was quicker on this host."""
        return self._give_up(now)

    def begun(self, number: int, now: float) -> list[Value]:
        """Note that it is written down here that the run has begun: from now on it has."""
        self._begin_to_tell(now)
        untold = [host for host in self._others if host not in self._begun]
        return [self._tell_begin(host) for host in untold if host in self._in_touch]

    def could_not(self, number: int, now: float) -> list[Value]:
        """Note that this host cannot begin after all."""
        return self.begun(number, now) if self.phase == BEGUN else self._give_up(now)

    def agreed(self, host: str, number: int, now: float) -> list[Value]:
        """Note that a host, or this one, has agreed that the run begins; it does, once most have."""
        if self.phase != AGREEING or number != self._number or self._is_majority is None:
            return []
        self._agreed.add(host)
        if not self._is_majority(self._agreed):
            return []
        if self.takes_part:
            return [self._begin()]
        self._begin_to_tell(now)  # nobody has begun yet: the first that does is waited for
        self._is_sure = False
        return [self._tell_begin(host) for host in self._chosen if host in self._in_touch]

    def disagreed(self, host: str, number: int, now: float) -> list[Value]:
        """Note that a host, or this one, could not keep that the run begins: it does not, where too few
        are left that can."""
        if self.phase != AGREEING or number != self._number or self._is_majority is None:
            return []
        self._disagreed.add(host)
        left = self._agreed.union(self._there) - self._disagreed
        return [] if self._is_majority(left) else self._give_up(now, NO_ROOM)

    def over(self, why: str) -> list[Value]:
        """Tell those that have not begun, now or when they are in touch, that the run is over; and all
        of them, if it runs without this host."""
        if why == protocol.NOT_NEEDED:
            return []
        self._over = self._over or why
        known = self._begun if self.takes_part else ()
        left = [host for host in self._others if host in self._in_touch and host not in known]
        return [Send(host, {"over": self._over}) for host in left]

    def run(self) -> None:
        """Note that the run was begun by its launcher, on all hosts of its only way."""
        self._turn = Turn(0, {host: [] for host in [self._here, *self._waits_on]})
        self.phase, self._begun = BEGUN, set(self._chosen)

    def dismiss(self) -> list[Value]:
        """Let those go that only decide: the run is over, and does not return to the queue."""
        there = set() if self.later else self._in_touch - self._waits_on  # another one leads them
        return [Send(host, {"over": protocol.NOT_NEEDED}) for host in sorted(there)]

    def tell(self, word: Message) -> list[Value]:
        """Tell all that are in touch."""
        return [Send(host, word) for host in self._others if host in self._in_touch]

    # -- time

    def tick(self, now: float) -> list[Value]:
        """Do what is due."""
        if self._over:
            return []
        met = [] if self.has_met or self.phase != WAITING else self._meet(now)
        if self.phase == WAITING and self._is_news and now >= self._not_before:
            return [*met, *self._look(now)]
        if self.phase in (CLAIMING, AGREEING) and now >= self._until:
            return self._give_up(now)
        if self.phase == DECIDING and self._council:
            return self._advised(self._council.tick(now), now)
        if self.phase == BEGUN and now >= self._until and not self.is_done:
            if not self._is_sure:
                return [StandBack()]
            return [Stop(protocol.HOSTS_PARTED)]
        return met

    def _meet(self, now: float) -> list[Value]:
        """Note that all have met; or enough, once the others have had time to come."""
        late = self._suffice and now >= self._gathers_until
        able = self._council is None or self._council.can_decide([self._here, *self._in_touch])
        self.has_met = able and (not self.missing or late)
        self._is_news = self._is_news or self.has_met
        return self.tell({"met": 1}) if self.has_met else []

    def _look(self, now: float) -> list[Value]:
        """Decide; claim if it is the run's turn."""
        self._is_news = False
        turn = self._decide(self._stands) if self.has_met and self._suffice else None
        if turn is None or not set(turn.gpus) - {self._here} <= self._in_touch:
            self._settled = None
            return []
        if len(turn.gpus) < self._largest:
            self._settled = now + SETTLE if self._settled is None else self._settled
            if now < self._settled:
                self._is_news, self._not_before = True, self._settled
                return []
        self._number += 1
        self._turn, self._held, self._ports, self.later = turn, {}, {}, None
        if self._council is None:
            return self._claim(now)
        self.phase = DECIDING
        chosen = [host for host, gpus in turn.gpus.items() if gpus]
        gpus, in_touch = sum(map(len, turn.gpus.values())), [self._here, *self._in_touch]
        return self._advised(self._council.begin(self._number, chosen, gpus, in_touch, now), now)

    def _advised(self, words: Words, now: float) -> list[Value]:
        """Say what a council wants to be said, and go on once it has decided."""
        said: list[Value] = [Send(host, word) for host, word in words]
        found = self._council.round if self._council else None
        if found and found.is_refused and self.phase in (DECIDING, CLAIMING, AGREEING):
            return [*said, *self._give_up(now)]
        if found and found.is_allowed and self.phase == DECIDING:
            return [*said, *self._claim(now)]
        return said

    def _claim(self, now: float) -> list[Value]:
        if not set(self._turn.gpus) - {self._here} <= self._in_touch:
            return self._give_up(now)
        self.phase, self._until = CLAIMING, now + PATIENCE
        if self.takes_part:
            return [Claim(self._number, self._turn.gpus[self._here], self._turn.way)]
        return self._ask_others()

    def _ask_others(self) -> list[Value]:
        gpus, word = self._turn.gpus, {"claim": self._number, "way": self._turn.way}
        return [Send(host, dict(word, gpus=gpus[host])) for host in self._chosen]

    def _hold(self, host: str, word: Message, now: float) -> list[Value]:
        self._held[host] = {
            "gpus": self._turn.gpus.get(host, []),
            "names": word["names"],
            "ports": word["ports"],
        }
        self._ports[host] = word.get("port") or 0
        return [] if len(self._held) < len(self._turn.gpus) else self._agree(now)

    def _agree(self, now: float) -> list[Value]:
        """Have most of those that vote agree to the start, if there are any."""
        if self._is_majority is None:
            return [self._begin()]
        self.phase, self._agreed, self._disagreed = AGREEING, set(), set()
        word = {"agree": self._number, "way": self._turn.way, "given": self._held}
        return [*self.tell(word), Agree(self._number, self._held, self._turn.way)]

    def _begin_to_tell(self, now: float) -> None:
        self.phase, self._until = BEGUN, now + ANSWER
        if self._council:
            self._council.end()

    def _made_sure(self) -> list[Value]:
        """Write down, and tell all, what another host has begun."""
        self._is_sure = True
        return [self._begin()]

    def _begin(self) -> Begin:
        return Begin(self._number, self._held, self._turn.way)

    def _give_up(self, now: float, pause: float = PAUSE) -> list[Value]:
        """Let everybody release what was claimed, and try again later."""
        self.phase, self._is_news, self._not_before = WAITING, True, now + pause
        if self._council:
            self._council.end()
        return [Release(), *self.tell({"release": self._number})]

    def _tell_begin(self, host: str) -> Send:
        """Tell a host what it begins with, or that it is not needed."""
        later = {"later": self.later} if self.later else {}
        if host in self._turn.gpus:
            word = {"begin": self._number, "given": self._held, "way": self._turn.way}
            return Send(host, {**word, **later})
        over = {"over": protocol.NOT_NEEDED}
        if not self._keeps:
            return Send(host, over)
        rest = {"rest": self._number, **later}
        return Send(host, {**rest, **(over if host in self._waits_on else {})})
