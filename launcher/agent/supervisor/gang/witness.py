"""A host that takes part in decisions about the project of a run which waits elsewhere.

A quota is decided on more than half of all hosts, and a run that waits with nobody in touch needs some
there that answer. A witness does no more than that: it is one process, and holds no GPU and no ticket.
It ends when the run has begun or is over, or when its user says so; while a run runs that may have to
give its GPUs back, it rests. What it wrote into its user's books
stays there until the run ends, or the next decision about the project finds that it has.
See docs/decisions/0086-witnesses.md.
"""

from __future__ import annotations

import errno
import os
import select
import time

from ...host import socket_names, witnesses
from ...processes import detached, processes
from ..projects.clerk import Clerk
from .lines import JOINED, PARTED, Lines
from .seat_lines import SeatLines
from .words import fault_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...base.messages import GangSpec, Message

#: Seconds without its leader until a witness ends: longer than a network is down over a weekend.
FORSAKEN = 4 * 86400.0
#: Most seconds between two looks.
LONGEST = 5.0


class Witness:
    """One run's witness on this host, from when it listens until it is not needed. Raises OSError."""

    def __init__(self, run: str, host: str, gang: GangSpec, now: float) -> None:
        self._listener = socket_names.bind(witnesses.name_of(run, host, gang["key"]))
        self._gang, self._host = gang, host
        self._lines = _lines(gang, host, now)
        self._clerk = Clerk(run, now, gang.get("users") or ())
        self._heard = now  # when the leader was in touch last
        self._is_in_touch = self._is_over = self._rests = False

    def serve(self) -> None:
        """Return when it is not needed any more."""
        while not self._is_over:
            reading = [self._listener, *self._lines.readable]
            found = select.select(reading, self._lines.writable, [], self._patience())
            now = time.monotonic()
            if self._listener in found[0] and witnesses.is_asked_to_end(self._listener):
                break
            self._take(self._lines.look([*found[0], *found[1]], now), now)
            self._take(self._lines.keep_time(now), now)
            if self._is_in_touch:
                self._heard = now
                is_due = now >= self._clerk.next_look and not self._rests
                self._say(self._clerk.look(now) if is_due else [], now)
            self._is_over = self._is_over or now > self._heard + FORSAKEN
        self._clerk.close()
        self._lines.close()
        self._listener.close()

    def _patience(self) -> float:
        now = time.monotonic()
        moments = [now + LONGEST, self._lines.next_look(now)]
        moments += [self._clerk.next_look] if self._is_in_touch and not self._rests else []
        return max(0.0, min(moments) - now)

    def _take(self, news: Iterable[tuple[str, str, Message]], now: float) -> None:
        for kind, _, word in news:
            if kind == JOINED:
                self._is_in_touch, self._rests = True, False
                self._clerk.joined(now)
            elif kind == PARTED:
                self._is_in_touch = False
                self._clerk.close()
            elif not fault_of(word):
                self._hear(word, now)
                if "seats" in word and isinstance(self._lines, SeatLines):
                    self._lines.learn(word["seats"], now)
            if "later" in word and not self._is_over:
                self._follow(word["later"], now)
                break

    def _follow(self, later: Message, now: float) -> None:
        """Go to the host that leads from now on."""
        self._lines.close()
        self._gang = dict(self._gang, **later)  # type: ignore[assignment]
        self._lines, self._is_in_touch = _lines(self._gang, self._host, now), False

    def _hear(self, word: Message, now: float) -> None:
        if "over" in word:
            self._is_over = True
        if "rest" in word:
            self._rests = True
            self._clerk.close()
        if "release" in word:
            self._clerk.release()
        if "ask" in word:
            self._say(self._clerk.hear(word["ask"], now), now)

    def _say(self, words: Iterable[Message], now: float) -> None:
        for word in words:
            self._lines.say("", word, now)


def _lines(gang: GangSpec, host: str, now: float) -> Lines:
    """Return the lines to the host that leads; another one may, later."""
    if not gang.get("voters"):
        return Lines(gang, host, now)
    return SeatLines(gang, host, now, None, lambda _: False, lambda: True)


def launch(run: str, host: str, gang: GangSpec) -> None:
    """Start the witness of a run for ``host``, as the inventory calls this one, unless it is there; end
    those of an earlier wait. Raises OSError when it does not start."""
    name = witnesses.name_of(run, host, gang["key"])
    witnesses.end(run, name, host)
    if name in witnesses.there(run):
        return
    problem = detached.start(lambda beginning: _be(run, host, gang, beginning))
    if problem:
        raise OSError(errno.EAGAIN, "the witness did not start: %s" % problem)


def _be(run: str, host: str, gang: GangSpec, beginning: detached.Beginning) -> None:
    processes.forget_handlers()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    detached.close_all(but={beginning.descriptor})
    try:
        witness = Witness(run, host, gang, time.monotonic())
    except OSError as error:
        beginning.tell(str(error))
        return
    beginning.tell()
    witness.serve()
