"""A run that waits on several hosts for GPUs, and begins there without a launcher: the part of one host.

It holds the run's ticket here and all that the start needs, and does what decisions.py says. See
docs/decisions/0070-hosts-meet.md and 0082-hosts-choose.md; for runs with a project 0086-witnesses.md.
"""

from __future__ import annotations

import select
import time

from ...base import protocol
from ...host import lookout, socket_names, tickets
from .. import turns
from . import decisions, stands, ways
from .claimed import Claimed
from .lines import JOINED, PARTED, Lines
from .member import Member
from .returning import attempt_of, leader_of, led_by, may_return
from .sight import Sight
from .words import fault_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ...base.lean import Socket
    from ...base.messages import GangSpec, GatherRequest, Given, Message, StartRequest
    from ..projects.council import Council
    from ..stands import Stand
    from . import stake
    from .electing import Electing
    from .hands import Hands

#: Seconds for all hosts to hear of the start of a run that is over by then.
LAST_WORDS = decisions.ANSWER
#: What the ticket of each host says for itself.
_OWN = ("only", "part")
#: What the leader decides anew.
_OF_PROJECT = ("within", "member", "takes")
#: Why a run waits that no end of another one would let begin.
HOPELESS = (turns.HOSTS_MISSING, turns.TOO_LARGE)
#: Most characters of what ends a run.
LONGEST_WHY = 40


class Gathered:
    """One host of a run that waits with others, until it is closed. Raises OSError."""

    def __init__(
        self,
        run: str,
        host: str,
        request: GatherRequest,
        hands: Hands,
        now: float,
        is_running: bool = False,
        listener: Socket | None = None,
    ) -> None:
        """``is_running``: its launcher has begun it. Then it waits for nothing, and may do so later.
        ``listener`` is that of the attempt before, which has handed it over."""
        self.request, self.key = request, request["gang"]["key"]
        self.has_begun = is_running
        self._run, self._here, self._hands = run, host, hands
        self._attempt = attempt_of(request)
        self._ways = ways.ways_of(request)[0]
        self._member = Member(now)
        self._electing = self._elects(now)
        self._lines = (
            self._electing.lines if self._electing else Lines(request["gang"], host, now, listener)
        )
        self._council: Council | None = None  # decides about its project, if it leads and has one
        self._leader = self._leads(request["gang"]["hosts"], now)
        self._stake = self._staked(now)
        self._is_project_news = False
        self._is_met = False  # it is written down that the hosts have met
        self._have_met = False  # they have, whoever led
        if is_running:
            self._part.run()
        asked = request.get("ticket")
        self._asked = asked and {
            name: one for name, one in asked.items() if name not in _OF_PROJECT
        }  # for the ticket that the run's user wants
        self._shown: Message | None = None  # as it is now
        self._ticket: Socket | None = None
        self._since: float = now - (self._asked or {}).get("waited", 0.0)
        seconds = request.get("seconds")
        self._until = float("inf") if seconds is None else now + seconds
        self._sight = Sight(run, request)
        self._next_look = now
        self._stood: dict[str, float] = {}  # when a host said how things stand there
        self._claimed = Claimed(request, host)
        self._later: Message | None = None  # how the hosts find each other later
        self._moved: Message | None = None  # what the leader has told of another ticket
        self._aside = self._is_hopeless = self._is_passing = False
        self._has_room = True
        try:
            self._show(now)
        except OSError:
            self.close()
            raise

    def _elects(self, now: float) -> Electing | None:
        """Return the part of this host in finding who leads, if others than the first one may."""
        voters = self.request["gang"].get("voters") or ()
        if self._here not in voters:
            return None
        from .electing import Electing  # most runs have fewer hosts

        return Electing(self.request, self._here, self, now)

    def _leads(self, hosts: Sequence[str], now: float) -> decisions.Leader | None:
        """Return what this host decides, if it is the one that leads from the start."""
        return None if self._electing or hosts[0] != self._here else self._new_leader(now)

    def _new_leader(self, now: float, term: decisions.Term | None = None) -> decisions.Leader:
        others = [host for host in self.request["gang"]["hosts"] if host != self._here]
        project, known = self.request.get("project"), self._ways
        every = [way["tokens"] for way in known] if isinstance(known, list) else known
        if project:
            from ..projects.council import Council  # few runs have a project

            self._council = Council(self._run, project, ways.numbers_of(self._ways))
        more = self._council, may_return(self.request)
        return decisions.Leader(self._here, others, self._decide, now, every, *more, term)

    def _staked(self, now: float) -> stake.Stake | None:
        project = self.request.get("project")
        if not project:
            return None
        from .stake import Stake

        return Stake(self._run, project, self._hands, now)

    # -- for the supervisor's loop

    @property
    def readable(self) -> list[Socket]:
        """The sockets to read from."""
        return [*self._sight.readable, *self._lines.readable]

    @property
    def writable(self) -> list[Socket]:
        """The sockets to write to once they take more."""
        return self._lines.writable

    def next_look(self, now: float) -> float:
        """Return the moment by which to call :meth:`look`, if nothing happens before."""
        moments = [self._part.next_tick(now), self._lines.next_look(now)]
        if self._part.phase == decisions.WAITING:
            moments += [self._next_look]
        if not self.has_begun and self._until > now:
            moments += [self._until]
        if self._stake and not self.has_begun:
            moments += [self._stake.next_look]
        if self._electing:
            moments += [self._electing.next_look(), self._member.next_tick(now)]
        return min(moments)

    def heard(self, ready: Iterable[object], now: float) -> None:
        """Handle sockets that are ready."""
        ready = list(ready)
        if self._sight.ended(ready):
            self._next_look = now
        self._take(self._lines.look(ready, now), now)

    def look(self, now: float) -> None:
        """Do what is due."""
        self._take(self._lines.keep_time(now), now)
        if self._electing:
            self._electing.look(now)
            if self._leader and self._member.tick(now):
                self._let_go()  # what was claimed for the leader before
        if self._part.phase == decisions.WAITING and now >= self._next_look:
            self._next_look = now + lookout.LOOK
            self._see(now)
        if self._stake and not self.has_begun:
            is_waiting = self._part.phase == decisions.WAITING
            for word in self._stake.look(now, is_waiting):
                self._tell_leader(word, now)
            if not self._leader and self._member.is_forsaken(now):
                self._stake.forsaken()
        self._obey(self._part.tick(now), now)
        if self._leader:
            self._note_progress(self._leader)
            self._share_standing(self._leader, now)
        self._show(now)

    def _note_progress(self, leader: decisions.Leader) -> None:
        """Write down that the hosts have met. End here once all know of the start of a run that has no
        part here."""
        if leader.has_met and not self._is_met:
            self._is_met = True
            self._hands.met(self.request, self._here)
        if leader.is_done and not leader.takes_part and not self._is_passing:
            if leader.later:
                self._hands.witness(leader.later)
            self._hands.end(protocol.NOT_NEEDED)

    def is_over(self, now: float) -> bool:
        """Return whether the run has waited for as long as its user wants.

        Only the leader knows that, and who is without it and has claimed nothing: the run may run.
        """
        claimed = self._part.phase != decisions.WAITING
        is_sure = not (self._leader and self._leader.unsure)
        mine = (self._leader is not None or self._member.is_alone) and is_sure
        return now >= self._until and mine and not claimed

    def waited(self, now: float) -> float:
        """Return for how many seconds the run has waited."""
        return max(0.0, now - self._since)

    def move(self, ticket: Message, now: float) -> None:
        """Wait with another ticket: on all hosts, if this one leads."""
        if self._asked is not None:
            own = {name: self._asked[name] for name in _OWN if name in self._asked}
            self._asked = dict(_of_all(ticket), **own)
        if self._leader:
            self._moved = _of_all(ticket)
            self._obey(self._leader.tell({"ticket": self._moved}), now)
        self._next_look = now
        self._show(now)

    def over(self, why: str, now: float) -> None:
        """Tell the other hosts that the run is over."""
        self._obey(self._part.over(why), now)

    def dismiss(self, now: float) -> None:
        """Let those go that only decide: the run is over."""
        self._obey(self._part.dismiss(), now)

    def hand_over(self) -> Socket | None:
        """Return what listens here, for the next attempt: nobody else gets its port meanwhile."""
        return self._lines.hand_over()

    def close(self) -> None:
        """Leave the queue, and let go of everything."""
        self._leave()
        self._claimed.close()
        if self._stake:
            self._stake.close()
        self._lines.close()

    @property
    def missing(self) -> list[str]:
        """The hosts that are not in touch, as the leader knows."""
        return self._leader.missing if self._leader else []

    @property
    def spec(self) -> GangSpec:
        """How the hosts find each other, as far as is known now."""
        gang = self.request["gang"]
        return {**gang, "seats": self._electing.lines.seats} if self._electing else gang

    @property
    def decides(self) -> bool:
        """Whether this host decides for the run."""
        return self._leader is not None

    @property
    def leads(self) -> str:
        """The host that leads, as far as this one knows; empty where none does."""
        if self._electing:
            return self._electing.leader
        return self.request["gang"]["hosts"][0]

    @property
    def is_to_move(self) -> bool:
        """Whether another host leads from now on: all know that the run has begun."""
        return self.has_begun and self._later is not None and self._part.is_done

    @property
    def is_needed(self) -> bool:
        """Whether another host does not know yet that the run has begun."""
        return self.has_begun and not self._part.is_done

    def pass_on(self) -> None:
        """Wait until all know it, in a host whose own part is over."""
        self._is_passing = True
        until = time.monotonic() + LAST_WORDS
        while self.is_needed and time.monotonic() < until:
            patience = max(0.0, min(until, self.next_look(time.monotonic())) - time.monotonic())
            found = select.select(self.readable, self.writable, [], min(1.0, patience))
            now = time.monotonic()
            self._take(self._lines.look([*found[0], *found[1]], now), now)
            self._take(self._lines.keep_time(now), now)
        self.close()

    @property
    def descriptors(self) -> set[int]:
        """The descriptors of all open sockets."""
        return {one.fileno() for one in [*self._lines.readable, *self._lines.writable]}

    # -- other hosts

    @property
    def _part(self) -> decisions.Leader | Member:
        return self._leader or self._member

    def _take(self, news: Iterable[tuple[str, str, Message]], now: float) -> None:
        if self._electing:
            self._electing.take(news, now)
            return
        for kind, host, word in news:
            if kind == JOINED:
                self.joined(host, now)
            elif kind == PARTED:
                self.parted(host, now)
            elif fault_of(word):
                continue
            elif self.has_begun and word.get("again", 0) > self._attempt:
                self._hands.give_way()  # it was out of touch as the others did
            elif self._leader:
                self.hear_member(self._leader, host, word, now)
            else:
                self.hear_leader(word, now)

    @property
    def leader(self) -> decisions.Leader | None:
        """What this host decides, if it leads."""
        return self._leader

    @property
    def is_done(self) -> bool:
        """Whether the run has begun, and all know that."""
        return self.has_begun and self._part.is_done

    def elected(self, term: decisions.Term, now: float) -> None:
        """Lead from now on."""
        self._leader, self._stood = self._new_leader(now, term), {}
        self._moved = None if self._asked is None else _of_all(self._asked)
        self._next_look = float("-inf")
        if self._stake:
            self._stake.joined(now)
        self._obey(self._leader.opened(now), now)

    def resigned(self, now: float) -> None:
        """Lead no longer: nothing is claimed any more."""
        self._leader = self._council = None
        self._member = Member(now)
        self._release()

    def note_room(self, has_room: bool) -> None:
        """Note whether the disk here could keep what this host agrees to: the ticket says so."""
        self._has_room = has_room

    def end(self, why: str) -> None:
        """End the run here."""
        self._hands.end(why)

    def joined(self, host: str, now: float) -> None:
        """Note that a host is in touch, or the leader."""
        self._sight.forget()
        if self._attempt and not self.has_begun:
            self._lines.say(host, {"again": self._attempt}, now)
        if self._stake and not self._leader:
            self._stake.joined(now)
        if not self._leader:
            self._obey(self._member.joined(now), now)
            self._next_look = now
            return
        self._obey(self._leader.joined(host, now), now)
        if not self.has_begun:
            moved = {"ticket": self._moved} if self._moved else {}
            standing = {"standing": self._stake.standing} if self._stake else {}
            self._say(host, dict(moved, aside=int(self._aside), **standing), now)
        self._note_progress(self._leader)

    def parted(self, host: str, now: float) -> None:
        """Note that it is out of touch."""
        self._stood.pop(host, None)
        self._is_project_news = True
        if self._leader:
            self._obey(self._leader.parted(host, now), now)
        else:
            self._member.parted(now)

    def hear_member(self, leader: decisions.Leader, host: str, word: Message, now: float) -> None:
        """Take what a host says to this one, which leads."""
        if "stand" in word:
            self._stood[host] = now
            leader.saw(host, word["stand"])
        if "said" in word and self._council:
            self._council.saw(host, word["said"], now)
            self._is_project_news = True
            leader.learned()
        held = word.get("held")
        if held is not None and not ways.fits(self._ways, leader.way, host, word):
            word = {"refused": held}
        self._obey(leader.heard(host, word, now), now)

    def hear_leader(self, word: Message, now: float) -> None:
        """Do what the leader says."""
        if "ticket" in word and not self.has_begun:
            self.move(word["ticket"], now)
        if "aside" in word:
            self._is_hopeless = bool(word["aside"])
        if "rest" in word and not self.has_begun:
            self._hands.witness(word.get("later"))
        self._later = word.get("later") or self._later
        if self._stake and not self.has_begun:
            self._hear_of_project(self._stake, word, now)
        self._obey(self._member.heard(word, now), now)

    # -- its project

    def _hear_of_project(self, stake: stake.Stake, word: Message, now: float) -> None:
        """Do what the leader says of the run's project, before its other instructions."""
        if "standing" in word:
            stake.standing = word["standing"]
            self._next_look = now  # the ticket here becomes another one
            self._show(now)
        if "release" in word:
            stake.release()
        if "ask" in word:
            self._answer(stake, word["ask"], now)

    def _answer(self, stake: stake.Stake, ask: Message, now: float) -> None:
        for word in stake.hear(ask, now):
            self._tell_leader(word, now)

    def _ask_here(self, instructions: Iterable[object], now: float) -> None:
        """Do what this host, which leads, asks of itself: last, as more may follow from the answer."""
        for one in instructions:
            if isinstance(one, decisions.Send) and one.host == self._here and self._stake:
                self._answer(self._stake, one.word["ask"], now)

    def _tell_leader(self, word: Message, now: float) -> None:
        if self._leader:
            self.hear_member(self._leader, self._here, word, now)
        else:
            self._say("", word, now)

    def _share_standing(self, leader: decisions.Leader, now: float) -> None:
        """Have the tickets on all hosts say how the run stands in its project."""
        if self._council is None or self._stake is None or self.has_begun:
            return
        if self._is_project_news and leader.phase == decisions.WAITING:
            self._is_project_news = False
            self._council.learn(now)
        standing = self._council.shown(leader.is_forsaken(now))
        if standing != self._stake.standing:
            self._stake.standing = standing
            self._next_look = now
            self._obey(leader.tell({"standing": standing}), now)

    # -- what decisions.py says

    def _obey(self, instructions: Iterable[object], now: float) -> None:
        todo = list(instructions)
        for one in todo:
            if isinstance(one, decisions.Send):
                self._say(one.host, one.word, now)
            elif self._is_passing:
                continue
            elif isinstance(one, decisions.Claim):
                self._claim(one, now)
            elif isinstance(one, decisions.Release):
                self._release()
                if self._electing and self._leader:
                    self._electing.withdraw(self._leader.number)
            elif isinstance(one, decisions.Begin):
                self._begin(one, now)
            elif isinstance(one, decisions.Stop):
                self._hands.end(one.why[:LONGEST_WHY])
            elif self._electing:
                self._obey_vote(self._electing, one, now)
        self._ask_here(todo, now)

    def _claim(self, claim: decisions.Claim, now: float) -> None:
        """Lock and hold what the run is to have here, if things stand as the leader knows it."""
        part = self._part
        given = self._claim_here(claim, now)
        now = time.monotonic()  # to ask for strangers takes a while
        if given:
            self._obey(part.held(claim.number, given, now, self._claimed.later_port), now)
        else:
            self._obey(part.refused(claim.number, now), now)

    def _claim_here(self, claim: decisions.Claim, now: float) -> Given | None:
        self._let_go()
        self._has_room = self._hands.has_room()
        if not self._claimed.fits(claim.way, claim.gpus) or not self._has_room:
            return None
        if claim.gpus and self._stake and not self._stake.has_entered:
            return None
        if claim.gpus:
            self._sight.ask_for_strangers(now)
            if self._see(now) or not self._hands.lock(claim.gpus):
                return None
        try:
            self._claimed.take(claim.way, claim.gpus)
        except OSError:
            self._let_go()
        return self._claimed.given

    def _say(self, host: str, word: Message, now: float) -> None:
        (self._electing or self._lines).say(host, word, now)

    def _obey_vote(self, electing: Electing, one: object, now: float) -> None:
        """Agree to what this host has proposed, which leads; or lead no longer."""
        if isinstance(one, decisions.StandBack):
            electing.stand_back(now)
        if not isinstance(one, decisions.Agree) or not self._leader:
            return
        if electing.agree(one.number, one.way, one.given):
            self._obey(self._leader.agreed(self._here, one.number, now), now)
        else:
            self._obey(self._leader.disagreed(self._here, one.number, now), now)

    def _release(self) -> None:
        if self._stake:
            self._stake.release()
        self._let_go()
        if self._electing:
            self._member.void()

    def _let_go(self) -> None:
        self._claimed.let_go()
        self._hands.unlock()
        self._next_look = float("-inf")  # who holds what here has changed

    def _begin(self, begin: decisions.Begin, now: float) -> None:
        """Begin, once it is written down; the other hosts hear of it before anything is started."""
        self._claimed.let_ports_go()
        if self._leader and may_return(self.request):
            way = self._ways[begin.way]
            port = self._leader.port_of(leader_of(self.request, way))
            self._leader.later = self._later = led_by(self.request, way, port)
        start = self._committed(begin.way, begin.given, now)
        if start is None:
            self._obey(self._part.could_not(begin.number, now), now)
            return
        self.has_begun = True
        if self._electing:
            self._electing.begun(begin.number, begin.way, begin.given)
        if self._stake:
            self._stake.begun()
        self._obey(self._part.begun(begin.number, now), now)
        self._leave()
        if start:
            self._hands.begin(start[0])

    def _committed(
        self, number: int, given: Mapping[str, Given], now: float
    ) -> list[StartRequest] | None:
        """Return what to start here, if anything, once it is written down; None if it cannot be."""
        if not ways.is_whole(self._ways, number, given):
            return None
        way, waited = self._ways[number], self.waited(now)
        if self._here not in given:  # it was chosen by this host, which is not part of it
            nothing: Given = {"gpus": [], "names": [], "ports": []}
            return [] if self._hands.commit(None, nothing, way, waited, self._later) else None
        filled, mine = self._claimed.start_of(number, given), self._claimed.given
        if filled is None or mine is None:
            return None
        done = self._hands.commit(filled, mine, way, waited, self._later)
        return [filled] if done else None

    def _leave(self) -> None:
        """Leave the queue."""
        if self._ticket:
            self._ticket.close()
        self._ticket = None
        if self._stake:
            self._stake.leave_queue()
        self._sight.close()
        self._claimed.let_ports_go()

    # -- the queue

    def _see(self, now: float) -> bool:
        """Look how things stand here, and tell the leader; return whether it did not know that."""
        if self._asked is None:
            return False
        stand, is_new = self._sight.look(now)
        if self._leader:
            self._stood[self._here] = now
            self._leader.saw(self._here, stand)
        elif is_new:
            self._say("", {"stand": stand}, now)
        return is_new

    def _decide(self, said: Mapping[str, Any]) -> decisions.Turn | None:
        """Return what the run may claim now."""
        now, known = time.monotonic(), []
        for host in ways.hosts_with_gpus(self._ways):
            if host in said:
                age = now - self._stood.get(host, now)
                stand = stands.read(self.request, host, said[host], age)
                known += [stand] if stand else []
        if self._council:
            self._council.learn(now)
            self._council.take_back(known, self._begins)
        answer = self._turn(known)
        self._is_hopeless = isinstance(answer, turns.Wait) and answer.why in HOPELESS
        return answer if isinstance(answer, decisions.Turn) else None

    def _turn(self, known: Sequence[Stand]) -> decisions.Turn | turns.Wait | None:
        standings = self._council.standings if self._council else None
        return ways.decide(known, socket_names.short(self._run), self._ways, standings)

    def _begins(self, known: Sequence[Stand]) -> bool:
        """Return whether it would be the run's turn if things stood so."""
        return isinstance(self._turn(known), decisions.Turn)

    def _of_lead(self, now: float) -> Message:
        """Return what the ticket says of who leads, where any host may."""
        if not self._electing:
            return {}
        unsure = bool(self._leader and self._leader.unsure)
        has_none = self._part.is_forsaken(now) and not self._electing.is_enough
        return {"leads": self._leader is not None, "no_leader": has_none, "unsure": unsure}

    def _show(self, now: float) -> None:
        """Have the ticket here say how things are. Raises OSError the first time."""
        if self._asked is None or self.has_begun:
            return
        is_held = self._stake is not None and self._stake.is_held
        aside = self._part.is_forsaken(now) or self._is_hopeless or is_held
        if self._leader and aside != self._aside:
            self._obey(self._leader.tell({"aside": int(aside)}), now)
        self._aside = aside
        self._have_met = self._part.has_met or (self._electing is not None and self._have_met)
        ticket = dict(
            self._asked,
            waited=self.waited(now),
            aside=aside,
            by_itself=self._have_met,
            no_room=not self._has_room,
            **self._of_lead(now),
            **(self._stake.of_ticket() if self._stake else {}),
        )
        if self._shown is not None and _same_ticket(ticket, self._shown):
            return
        before = self._ticket
        try:
            self._ticket = tickets.enter(self._run, ticket)
        except OSError:
            if before is None:
                raise
            return  # it is tried again at the next look
        self._shown = ticket
        if before:
            before.close()
        if self._stake:
            self._stake.show(ticket)


def _of_all(ticket: Message) -> Message:
    """Return what a ticket says that is the same on all hosts."""
    return {name: one for name, one in ticket.items() if name not in (*_OWN, *_OF_PROJECT)}


def _same_ticket(one: Message, other: Message) -> bool:
    return dict(one, waited=0) == dict(other, waited=0)
