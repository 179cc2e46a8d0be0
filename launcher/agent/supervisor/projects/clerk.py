"""What one host does for the leader of a run that has a project: it locks, reads and writes its books.

The leader asks, and this answers; what is new of projects here it is told without asking. A host of
which the run needs no GPU does only this: see witness.py and docs/decisions/0086-witnesses.md.
"""

from __future__ import annotations

from ...base import lean
from ...base.protocol import Refused
from ...host import lookout, project_books, project_round
from .round_steps import LOCK, LOCKED, LOOK, TIDY, UNLOCK, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ...base.messages import Message

#: Seconds between two tries to get a lock that somebody else has.
PAUSE = 0.05
#: Most bytes of what is told of projects here: a word of a line has to hold it.
MOST_TOLD = 1 << 19
#: What is told of each user, what lives first.
_KINDS = ("members", "books")


class Clerk:
    """The books of this host, in the service of one run that waits. It tells of the ``users`` that some
    project has; of all, where it does not know these."""

    def __init__(self, run: str, now: float, users: Iterable[str] = ()) -> None:
        self.next_look = now
        self._run, self._users = run, frozenset(users)
        self._round = project_round.ProjectRound()
        self._wanted: tuple[Message, float] | None = None  # a lock, and until when to try
        self._next_told = now
        self._told: Message | None = None  # as the leader knows it, if that is certain
        self._has_written = False

    def joined(self, now: float) -> None:
        """Note that the leader is in touch: it may know nothing."""
        self._told, self._next_told = None, now
        self._plan()

    def hear(self, ask: Message, now: float) -> list[Message]:
        """Do what the leader asks; return the answer, unless it comes from :meth:`look`."""
        do = ask["do"]
        if do == LOOK:
            said = self._said()
            self._told = None  # the leader takes this for the last word, unless it comes too late
            return [_answer(ask, bool(said), said=said)]
        if do == LOCK:
            self._wanted = (ask, now + LOCKED)
            words = self.look(now)
            return [*words, _answer(ask, False, later=1)] if self._wanted else words
        if do == WRITE:
            done = self._write(ask)
            self._round.unlock()  # whoever locks it next reads what was written
            return [_answer(ask, done)]
        if do == UNLOCK:
            self.close()
        if do == TIDY:
            for run in ask.get("runs") or ():
                project_books.remove(run)
        return []

    def look(self, now: float) -> list[Message]:
        """Return what is to be told now."""
        words = []
        self._round.expire()
        if self._wanted:
            ask, until = self._wanted
            done = self._locks(ask)
            if done is None and now >= until:
                done = False
            if done is not None:
                self._wanted = None
                words.append(_answer(ask, done))
        if now >= self._next_told:
            self._next_told = now + lookout.LOOK
            said = self._said()
            is_new, self._told = _without_ages(said) != self._told, _without_ages(said)
            words += [{"said": said}] if is_new else []
        self.next_look = now + PAUSE if self._wanted else self._next_told
        return words

    def release(self) -> None:
        """Let go of the lock, and take back what was written: the run does not begin."""
        self.close()
        if self._has_written:
            self._has_written = False
            project_books.remove(self._run)

    def close(self) -> None:
        """Let go of the lock."""
        self._wanted = None
        self._round.unlock()
        self._plan()

    def _plan(self) -> None:
        self.next_look = self._next_told

    def _locks(self, ask: Message) -> bool | None:
        """Return whether the project is locked here now; None if it may be soon."""
        try:
            found = self._round.lock(ask["project"])
        except (Refused, OSError):
            return False
        if not found["locked"] and found["holder"] and found["holder"] not in ask["users"]:
            return False  # it is nobody's who decides about this project
        return True if found["locked"] else None

    def _write(self, ask: Message) -> bool:
        try:
            soft = bool(ask.get("preemptible"))
            self._round.write(self._run, ask["project"], ask["gpus"], soft, ask["hosts"])
        except (Refused, OSError):
            return False
        self._has_written = True
        return True

    def _said(self) -> Message:
        """Return how projects stand here; nothing where that cannot be told."""
        try:
            found = project_round.look()
        except OSError:
            return {}
        found["members"] = [one for one in found["members"] if not one["waits"]]
        if self._users:
            known = self._users.union([found["user"]])
            for kind in _KINDS:
                found[kind] = [one for one in found[kind] if one["user"] in known]
        return fitting(found, MOST_TOLD)


def fitting(found: Message, most: int) -> Message:
    """Return of what is found here as much as has so many bytes: all of users who have little, and of
    those who have much the same amount, so that nobody crowds out others. Pure."""
    if len(lean.dumps(found)) <= most:
        return found
    of_user: dict[str, list[tuple[int, str, Message]]] = {}
    for kind in _KINDS:
        for one in found[kind]:
            of_user.setdefault(one["user"], []).append((len(lean.dumps(one)) + 2, kind, one))
    told: Message = dict(found, **{kind: [] for kind in _KINDS})
    left = most - len(lean.dumps(told))
    there = sorted(of_user.values(), key=lambda some: sum(size for size, _, _ in some))
    for number, some in enumerate(there):
        share = left // (len(there) - number)
        for size, kind, one in some:
            if size <= share:
                share, left = share - size, left - size
                told[kind].append(one)
    return told


def _answer(ask: Message, done: bool, **more: Any) -> Message:
    return {"answer": dict(more, round=ask["round"], do=ask["do"], done=int(done))}


def _without_ages(said: Mapping[str, Any]) -> Message:
    """Return what is said without what changes all the time."""
    members: Sequence[Mapping[str, Any]] = said.get("members") or ()
    return dict(said, members=[dict(one, age=0) for one in members])
