"""Decides about the project of a run that waits on hosts which start it by themselves. Pure.

The leader learns from all hosts in touch how projects stand there, and so how its own run does. When it
is the run's turn, a round begins: the project is locked on a majority, in the one order in which
everybody locks; all say how things stand now; if the rules allow it, the hosts that would start the run
show that they use GPUs in the project's name, and then the run is written into the books of that
majority. Launchers do the same. An elastic run may begin with several numbers of GPUs, and a round is
about one of them. See docs/decisions/0066-projects.md, docs/decisions/0086-witnesses.md and
docs/decisions/0096-any-number.md.
"""

from __future__ import annotations

from . import quotas, round_steps
from .round_steps import ANSWERS, ENTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from typing import Any

    from ...base.messages import BookFacts, GangProject, MemberFacts, Message
    from ..stands import Stand
    from .quotas import Standing, Use

    #: What to say to which host.
    Words = list[tuple[str, Message]]

#: Seconds until it is tried again where too few hosts did their part: the first pause, and the longest.
AGAIN, LONGEST_PAUSE = 10.0, 60.0
#: Old runs that are removed from books at once.
TIDIED = 64


class Rule:
    """What a project may have, as the request to wait says it."""

    def __init__(self, name: str, said: Mapping[str, Any]) -> None:
        self.name, self.quota, self.users = name, said["quota"], tuple(said["users"])
        limit = said.get("limit")
        self.most = float("inf") if limit is None else limit


def rules_of(said: Mapping[str, Mapping[str, Any]]) -> list[Rule]:
    """Return the rules of all projects."""
    return [Rule(name, one) for name, one in sorted(said.items())]


class Member:
    """A run of a project as a host shows it, so many seconds later."""

    def __init__(self, facts: MemberFacts, later: float = 0.0) -> None:
        self.project, self.run, self.user = facts["project"], facts["run"], facts["user"]
        self.gpus, self.age = facts["gpus"], facts["age"] + later
        self.preemptible, self.within = facts["preemptible"], facts["within"]
        self.waits = facts["waits"]


class Book:
    """What a book says of a run."""

    def __init__(self, facts: BookFacts) -> None:
        self.project, self.run, self.user = facts["project"], facts["run"], facts["user"]
        self.gpus, self.preemptible, self.hosts = (
            facts["gpus"],
            facts["preemptible"],
            facts["hosts"],
        )


class Said:
    """How projects stand on a host, as it said so many seconds ago."""

    def __init__(self, said: Message, later: float = 0.0) -> None:
        self.members = [Member(one, later) for one in said["members"]]
        self.books = [Book(one) for one in said["books"]]
        self.user: str = said["user"]


class Council:
    """What the leader of a run knows of projects, and the round that it is in, if any.

    ``standings`` are how the run stands with each of the ``numbers`` of GPUs that it may begin with
    (default: the only one), as far as is known, and ``standing`` is that with the least of them;
    ``takes`` are those that are asked for GPUs.
    """

    def __init__(self, run: str, project: GangProject, numbers: Iterable[int] = ()) -> None:
        self._run, self._project = run, project
        self._numbers = sorted(numbers) or [project["gpus"]]
        self.rules = rules_of(project["rules"])
        self.rule = next(rule for rule in self.rules if rule.name == project["name"])
        self.deciding: Mapping[str, str] = project["voters"]
        self.standings: Mapping[int, Standing] = {}
        self._stand_as(quotas.Standing(False, quotas.NO_MAJORITY))
        self.takes: list[str] = []
        self.uses: list[Use] = []
        self.round: Round | None = None
        self._said: dict[str, tuple[Message, float]] = {}
        self._failed: Standing = (
            self.standing
        )  # where too few hosts did their part in the last round
        self._again_at, self._pause = float("-inf"), AGAIN

    @property
    def standing(self) -> Standing:
        """How the run stands with the least number of GPUs: that is what it waits for."""
        return self.standings[self._least]

    @property
    def _least(self) -> int:
        return self._numbers[0]

    def _stand_as(self, standing: Standing) -> None:
        """Stand alike with all numbers of GPUs."""
        self.standings = dict.fromkeys(self._numbers, standing)

    def can_decide(self, hosts: Iterable[str]) -> bool:
        """Return whether these hosts are enough to decide."""
        return quotas.suffice(hosts, self.deciding)

    def saw(self, host: str, said: Message, now: float) -> None:
        """Note how projects stand on a host; it cannot tell where it says nothing."""
        if said:
            self._said[host] = (said, now)
        else:
            self._said.pop(host, None)

    def parted(self, host: str) -> None:
        """Note that a host is out of touch: once it is back, it may do its part."""
        self._said.pop(host, None)
        if host in self._failed.silent:
            self._again_at = float("-inf")

    def learn(self, now: float) -> Standing:
        """Return how the run stands, as far as hosts have said. Nothing is promised by that.

        Where too few did their part when it was the run's turn, that counts for a while: the run holds
        nobody back.
        """
        if now < self._again_at:
            self._stand_as(self._failed)
            self.takes = []
            return self.standing
        said = {host: Said(one, now - at) for host, (one, at) in self._said.items()}
        self._judge(said)
        if not self.standing.within or self.standing.why not in (None, quotas.LIMIT):
            self.takes = []
        return self.standing

    def _judge(self, said: Mapping[str, Said]) -> None:
        if not self.can_decide(said):
            self._stand_as(quotas.no_majority(said, self.deciding))
            return
        self.uses = quotas.uses(self.rules, said, self.deciding)
        self.standings = {gpus: self._standing_with(gpus) for gpus in self._numbers}

    def _standing_with(self, gpus: int) -> Standing:
        may_borrow = bool(self._project.get("preemptible"))
        return quotas.standing(self.rule, self.uses, self._run, gpus, may_borrow)

    def take_back(self, known: Sequence[Stand], begins: Callable[[Sequence[Stand]], bool]) -> None:
        """Decide which runs are asked for GPUs that they have borrowed: for a run within its quota whose
        turn it is not as things stand, or that the limit of its project holds back. No more is taken
        back than the least that it can begin with."""
        self.takes = []
        if not self.standing.within:
            return
        borrowed = quotas.borrowing(self.rules, self.uses)
        if self.standing.why == quotas.LIMIT:
            mine = self.rule, self.uses, self._run
            self.takes = quotas.enough_for_limit(*mine, self._least, borrowed)
        elif self.standing.why is None and not begins(known):
            self.takes = quotas.to_take_back(known, self._run, borrowed, begins)

    def shown(self, is_forsaken: bool) -> Message:
        """Return what tickets say of the run: one that is forsaken takes nothing from others."""
        found, takes = self.standing, self.takes
        within = found.within and not is_forsaken
        return {"within": int(within), "held": found.why or "", "takes": takes if within else []}

    def ask_nobody(self) -> None:
        """Ask no run for GPUs: this one could not begin with them."""
        self.takes = []

    # -- a round

    def begin(
        self, number: int, chosen: Collection[str], gpus: int, in_touch: Iterable[str], now: float
    ) -> Words:
        """Begin a round for a run that would begin with so many GPUs on the hosts that are chosen."""
        self.round = Round(number, chosen, in_touch, self.deciding, self._words(chosen, gpus), now)
        return self._go_on(self.round.begin(now), now)

    def _words(self, chosen: Collection[str], gpus: int) -> Message:
        """Return what hosts have to know in a round."""
        return {
            "project": self.rule.name,
            "users": list(self.rule.users),
            "gpus": gpus,
            "preemptible": int(bool(self._project.get("preemptible"))),
            "hosts": sorted(chosen),
        }

    def heard(self, host: str, answer: Message, now: float) -> Words:
        """Take the answer of a host; return what to say next."""
        return [] if self.round is None else self._go_on(self.round.heard(host, answer, now), now)

    def lost(self, host: str, now: float) -> Words:
        """Go on without a host that is out of touch."""
        return [] if self.round is None else self._go_on(self.round.parted(host, now), now)

    def tick(self, now: float) -> Words:
        """Do what is due."""
        return [] if self.round is None else self._go_on(self.round.tick(now), now)

    def _go_on(self, words: Words, now: float) -> Words:
        """Decide where all have said how things stand; note what has become of the round."""
        if self.round is None:
            return words
        words = [*words, *(self._decide(self.round, now) if self.round.is_to_decide else [])]
        if self.round.is_allowed:
            self._pause = AGAIN
        if self.round.is_refused and self.round.lacking is not None:
            self._failed = quotas.Standing(False, quotas.NO_MAJORITY, silent=self.round.lacking)
            self._stand_as(self._failed)
            self.takes = []
            self._again_at, self._pause = now + self._pause, min(LONGEST_PAUSE, 2 * self._pause)
        return words

    def _decide(self, found: Round, now: float) -> Words:
        said = {host: Said(one) for host, one in found.said.items()}
        self._said.update((host, (one, now)) for host, one in found.said.items())
        whole = found.locked.intersection(said)
        if not self.can_decide(whole):
            found.fail(whole)
            return []
        self._judge(said)
        standing = self._standing_with(found.gpus)
        if standing.why is not None:
            found.refuse()
            return self._tidy(said)
        return [*self._tidy(said), *found.allow(standing.within, now)]

    def _tidy(self, said: Mapping[str, Said]) -> Words:
        """Remove runs of the project that are over from the books of their user."""
        words: Words = []
        for host, there in said.items():
            over = quotas.over(there, said, self.deciding, self.rule.name)
            if over:
                words.append(
                    (host, {"ask": {"round": 0, "do": round_steps.TIDY, "runs": over[:TIDIED]}})
                )
        return words

    def end(self) -> None:
        """Be in no round any more."""
        self.round = None


class Round:
    """One decision about so many ``gpus`` for a project. ``locked`` are the hosts whose books are
    locked, ``said`` how things stand on each host as of these locks, and ``written`` the hosts whose
    books have the run. One that is refused because hosts did not do their part is ``lacking`` these."""

    def __init__(
        self,
        number: int,
        chosen: Collection[str],
        in_touch: Iterable[str],
        deciding: Mapping[str, str],
        words: Message,
        now: float,
    ) -> None:
        self.step, self.gpus = round_steps.LOCK, words["gpus"]
        self.is_refused = self.is_allowed = self.is_to_decide = False
        self.locked: set[str] = set()
        self.written: set[str] = set()
        self.said: dict[str, Message] = {}
        self.lacking: tuple[str, ...] | None = None
        self._number, self._chosen, self._words = number, sorted(chosen), words
        self._asked, self._deciding = sorted(set(in_touch) & set(deciding)), deciding
        self._to_lock = [host for host in self._asked if deciding[host] == host]
        self._tried: set[str] = set()  # hosts that were asked to lock
        self._open: set[str] = set()  # and those that owe an answer
        self._until = self._ends = now + round_steps.WHOLE

    def next_tick(self) -> float:
        """Return the moment by which to call :meth:`tick`, if nothing happens before."""
        return min(self._until, self._ends)

    # -- what happens

    def begin(self, now: float) -> Words:
        """Lock the project, host by host."""
        return self._next(now)

    def allow(self, within: bool, now: float) -> Words:
        """Have those that would start the run show that, ``within`` its quota or not, and write it into
        the books that are locked, which unlocks them."""
        self.is_to_decide = False
        self._words["within"] = int(within)
        return self._ask(self._chosen, ENTER, now + ANSWERS)

    def _write(self, now: float) -> Words:
        late = [
            (host, self._word(round_steps.UNLOCK)) for host in sorted(self._tried - self.locked)
        ]
        return [*late, *self._ask(sorted(self.locked), round_steps.WRITE, now + ANSWERS)]

    def refuse(self) -> None:
        """Note that the run may not begin."""
        self.is_to_decide, self.is_refused = False, True

    def fail(self, able: Collection[str], wanted: Iterable[str] = ()) -> None:
        """Note that of those ``wanted``, which by default are all that lock, too few were able."""
        self.refuse()
        whole = set(wanted) or set(self._deciding.values())
        self.lacking = tuple(sorted(whole.difference(able)))

    def heard(self, host: str, answer: Message, now: float) -> Words:
        """Take the answer of a host."""
        is_due = answer["round"] == self._number and answer["do"] == self.step
        if not is_due or host not in self._open or self._is_over:
            return []
        if answer.get("later"):
            self._until = now + round_steps.LOCKED + ANSWERS
            return []
        self._open.discard(host)
        if answer["done"]:
            if self.step == round_steps.LOCK:
                self.locked.add(host)
            elif self.step == round_steps.WRITE:
                self.written.add(host)
            elif self.step == round_steps.LOOK and answer.get("said"):
                self.said[host] = answer["said"]
        elif self.step == ENTER:
            self.fail((), [host])
        return self._next(now)

    def parted(self, host: str, now: float) -> Words:
        """Go on without a host: what it has locked or written counts no longer."""
        self._asked = [one for one in self._asked if one != host]
        self._to_lock = [one for one in self._to_lock if one != host]
        self.locked.discard(host)
        self.written.discard(host)
        self.said.pop(host, None)
        if host in self._chosen or (self.is_allowed and not self._suffice(self.written)):
            self.is_allowed = False
            self.refuse()
        if host not in self._open:
            return []
        self._open.discard(host)
        return self._next(now)

    def tick(self, now: float) -> Words:
        """Go on without those that do not answer."""
        if self._is_over or now < self.next_tick():
            return []
        if self.step == ENTER:
            self.fail((), self._open)
            return []
        if now >= self._ends:
            self.fail(self.written if self.step == round_steps.WRITE else self.locked)
            return []
        self._asked = [host for host in self._asked if host not in self._open]
        self._open.clear()
        return self._next(now)

    # -- steps

    @property
    def _is_over(self) -> bool:
        return self.is_refused or self.is_allowed or self.is_to_decide

    def _next(self, now: float) -> Words:
        """Take the next step once all have answered."""
        if self._open or self._is_over:
            return []
        if self.step == round_steps.LOCK and self._to_lock:
            first = self._to_lock.pop(0)
            self._tried.add(first)
            return self._ask([first], round_steps.LOCK, now + ANSWERS)
        if self.step == round_steps.LOCK:
            if self._suffice(self.locked):
                return self._ask(self._asked, round_steps.LOOK, now + ANSWERS)
            self.fail(self.locked)
        elif self.step == round_steps.LOOK:
            self.is_to_decide = True
        elif self.step == ENTER:
            return self._write(now)
        elif self.step == round_steps.WRITE:
            self.is_allowed = self._suffice(self.written)
            if not self.is_allowed:
                self.fail(self.written)
        return []

    def _suffice(self, hosts: Iterable[str]) -> bool:
        return quotas.suffice(hosts, self._deciding)

    def _ask(self, hosts: Sequence[str], do: str, until: float) -> Words:
        self.step, self._open, self._until = do, set(hosts), until
        return [(host, self._word(do)) for host in hosts]

    def _word(self, do: str) -> Message:
        return {"ask": dict(self._words, round=self._number, do=do)}
