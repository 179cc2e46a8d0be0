"""The lines between the supervisors of a run that waits on several hosts: all connect to the first one.

A message is a line of JSON, authenticated with a key of this wait, with numbers that both ends have
chosen for this connection, and with its place in it: nobody can repeat, drop or mix messages. It is not
secret. What a line was told is lost with it: decisions.py knows what to say to a host that is back.
"""

from __future__ import annotations

import errno
import math
import os
from _operator import _compare_digest as same

from ...base import lean
from ...base.lean import Socket, socket
from ...base.protocol import blake2b
from ...base.tcp import family_of, keep_alive, listen, own_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Tuple

    from ...base.messages import GangSpec, Message

    #: What has happened: one of the kinds below, the other host, and what it said.
    News = Tuple[str, str, Message]

#: The kinds of news.
JOINED, PARTED, SAID = "joined", "parted", "said"

#: Seconds between two tries to reach the leader: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0
#: After so many seconds without the leader, the longest pause of a host that may wait for days.
LONG, PATIENT_PAUSE = 3600.0, 60.0
#: Seconds to connect, and for a caller to prove that it is a host of this run.
PATIENCE = 10.0
#: Seconds between two signs of life, and without any until a line counts as lost.
BEAT, SILENT = 5.0, 25.0
#: Most bytes of a message; of one that proves who calls; and most connections beyond those of the hosts.
LONGEST_WORD, LONGEST_PROOF, STRANGERS = 1 << 20, 4096, 16
#: `select` takes descriptors below 1,024 alone.
MOST_DESCRIPTORS = 1000
#: Characters of the numbers that both ends choose, and of a mark.
NONCE, MARK = 32, 32

TO_LEADER, TO_MEMBER = "m", "l"


class _Line:
    """One connection. ``session`` are the numbers of both ends, as far as they are known."""

    def __init__(self, line: Socket, spec: GangSpec, sends: str, now: float) -> None:
        line.setblocking(False)
        keep_alive(line)
        self.socket, self.host, self.session = line, "", ""
        self.is_caller = sends == TO_MEMBER
        self.since = self.heard_at = self.said_at = now
        self.unsent = bytearray()
        self._key = spec["key"].encode("ascii")
        self._sends, self._reads = sends, TO_LEADER if sends == TO_MEMBER else TO_MEMBER
        self._sent = self._read = 0
        self._buffer = bytearray()

    def say(self, word: Message, now: float) -> bool:
        """Send a message, as far as the kernel takes it now; return whether the line still works."""
        text = lean.dumps(word).encode("ascii")
        self.unsent += self._mark(self._sends, self._sent, text) + b" " + text + b"\n"
        self._sent += 1
        self.said_at = now
        return self.flush()

    def flush(self) -> bool:
        """Send what the kernel takes; return whether the line still works."""
        try:
            while self.unsent:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            return len(self.unsent) <= 2 * LONGEST_WORD
        except OSError:
            return False
        return True

    def read(self, now: float) -> list[bytes] | None:
        """Return whole lines; None when the other end is gone or sends too much."""
        try:
            data = self.socket.recv(1 << 16)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data:
            return None
        self.heard_at = now
        self._buffer += data
        *whole, rest = bytes(self._buffer).split(b"\n")
        self._buffer = bytearray(rest)
        longest = LONGEST_WORD if self.host else LONGEST_PROOF
        fits = all(len(one) <= longest for one in [*whole, rest])
        return whole if fits else None

    def word(self, sealed: bytes) -> Message | None:
        """Return the message of a line; None if it is not the next one of the other end."""
        text = sealed[MARK + 1 :]
        if not same(sealed[:MARK], self._mark(self._reads, self._read, text)):
            return None
        self._read += 1
        word = lean.loads(text.decode("ascii"))
        return word if isinstance(word, dict) else None

    def _mark(self, direction: str, number: int, text: bytes) -> bytes:
        place = "%s %s %d " % (self.session, direction, number)
        made = blake2b(place.encode("ascii") + text, key=self._key, digest_size=MARK // 2)
        return made.hexdigest().encode("ascii")


class Lines:
    """The lines of one host: the leader listens, and any other host connects. Raises OSError when it
    cannot listen."""

    def __init__(
        self, spec: GangSpec, here: str, now: float, listener: Socket | None = None
    ) -> None:
        """``listener`` is that of lines before these, which have handed it over."""
        self._spec, self._here = spec, here
        self._leads = spec["hosts"][0] == here
        self._lines: dict[Socket, _Line] = {}
        self._dialled: Socket | None = None
        self._dialled_at, self._dial_at, self._pause = now, now, FIRST_PAUSE
        self._parted_at = now
        #: Where the leader may be, the address that is tried next in front.
        self._addresses = list(spec.get("addresses") or [spec["address"]])
        self._listener: Socket | None = None
        if self._leads:
            # Those that are no hosts of the run may reach another address of this one.
            only = "" if spec.get("addresses") else own_address(spec["address"])
            self._listen(listener or listen(spec["port"], only))

    def _listen(self, listener: Socket) -> None:
        self._listener = listener
        listener.setblocking(False)

    # -- for the supervisor's loop

    @property
    def readable(self) -> list[Socket]:
        """The sockets to read from."""
        return ([self._listener] if self._listener else []) + list(self._lines)

    @property
    def writable(self) -> list[Socket]:
        """The sockets that connect, or to write to once they take more."""
        dialled = [self._dialled] if self._dialled else []
        return dialled + [one.socket for one in self._lines.values() if one.unsent]

    def next_look(self, now: float) -> float:
        """Return the moment by which to call :meth:`keep_time`."""
        moments = [now + BEAT] if self._lines else []
        if self._is_to_dial:
            moments.append(self._dialled_at + self._patience if self._dialled else self._dial_at)
        return min(moments, default=math.inf)

    def look(self, ready: Iterable[object], now: float) -> list[News]:
        """Handle the sockets that are ready, and ignore those that are not ours."""
        news: list[News] = []
        for one in list(ready):
            if one is self._listener:
                self._accept(now)
            elif one is self._dialled:
                self._connected(now)
            elif one in self._lines:
                news += self._serve(self._lines[one], now)
        return news

    def keep_time(self, now: float) -> list[News]:
        """Connect when that is due, show that this host lives, and drop lines that are silent."""
        news: list[News] = []
        for line in list(self._lines.values()):
            late = now > line.heard_at + SILENT or (not line.host and now > line.since + PATIENCE)
            beat = line.host and now >= line.said_at + BEAT
            if late or (beat and not line.say({}, now)):
                news += self._drop(line, now)
        if not self._is_to_dial:
            return news
        if self._dialled and now >= self._dialled_at + self._patience:
            self._failed(now)
        if not self._dialled and now >= self._dial_at:
            self._dial(now)
        return news

    def say(self, host: str, word: Message, now: float) -> None:
        """Say something to a host, or to the leader; it is lost if that is not in touch."""
        for line in self._lines.values():
            if line.host == (host or self._spec["hosts"][0]):
                line.say(word, now)  # one that does not work any more is found when it is read

    def hand_over(self) -> Socket | None:
        """Return what listens here, for the lines that follow these: nobody else gets its port."""
        listener, self._listener = self._listener, None
        return listener

    def close(self) -> None:
        """Close all lines; what was said still arrives."""
        for line in list(self._lines.values()):
            line.flush()
            _end(line.socket)
        for other in (self._listener, self._dialled):
            if other:
                other.close()
        self._listener = self._dialled = None
        self._lines = {}

    # -- lines

    @property
    def _is_to_dial(self) -> bool:
        return not self._leads and not self._lines

    @property
    def _patience(self) -> float:
        """Seconds to connect."""
        return PATIENCE

    def _place(self) -> tuple[str, int]:
        """Return the address and the port that are tried next."""
        return self._addresses[0], self._spec["port"]

    def _accept(self, now: float) -> None:
        assert self._listener
        try:
            caller = self._listener.accept()[0]
        except OSError:
            return
        if caller.fileno() >= MOST_DESCRIPTORS:
            caller.close()
            return
        unknown = [one for one in self._lines.values() if one.is_caller and not one.host]
        if len(self._lines) >= len(self._spec["hosts"]) + STRANGERS and unknown:
            self._drop(unknown[0], now)  # it had more time than a host of the run needs
        line = self._begin(caller, TO_MEMBER, now)
        line.session = os.urandom(NONCE // 2).hex()
        line.unsent += line.session.encode("ascii") + b"\n"
        line.flush()

    def _begin(self, made: Socket, sends: str, now: float) -> _Line:
        line = self._lines[made] = _Line(made, self._spec, sends, now)
        return line

    def _dial(self, now: float) -> None:
        address, port = self._place()
        line = self._dialled = Socket(family_of(address), socket.SOCK_STREAM)
        line.setblocking(False)
        code = line.connect_ex((address, port))
        self._dialled_at = now
        if code not in (0, errno.EINPROGRESS):
            self._failed(now)

    def _failed(self, now: float) -> None:
        if self._dialled:
            self._dialled.close()
        self._dialled = None
        self._try_another()
        self._dial_later(now)

    def _dial_later(self, now: float) -> None:
        longest = PATIENT_PAUSE if now > self._parted_at + LONG else LONGEST_PAUSE
        self._dial_at = now + self._pause
        self._pause = min(longest, 2 * self._pause)

    def _try_another(self) -> None:
        """Try the next address of the leader, if it has several."""
        self._addresses.append(self._addresses.pop(0))

    def _connected(self, now: float) -> None:
        assert self._dialled
        if self._dialled.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._failed(now)
            return
        self._begin(self._dialled, TO_LEADER, now)
        self._dialled = None

    def _drop(self, line: _Line, now: float) -> list[News]:
        self._lines.pop(line.socket, None)
        line.socket.close()
        if not line.is_caller:
            if not line.host:
                self._try_another()
            if line.host:
                self._parted_at = now
            self._dial_later(now)
        return [(PARTED, line.host, {})] if line.host else []

    def _serve(self, line: _Line, now: float) -> list[News]:
        if not line.flush():
            return self._drop(line, now)
        lines = line.read(now)
        if lines is None:
            return self._drop(line, now)
        news: list[News] = []
        for sealed in lines:
            found = self._take(line, sealed, now)
            if found is None:
                return news + self._drop(line, now)
            news += found
        return news

    def _take(self, line: _Line, sealed: bytes, now: float) -> list[News] | None:
        """Return what a line brings; None if it is not of another host of this run."""
        if not line.is_caller and not line.session:
            if not _is_nonce(sealed):
                return None
            return self._prove(line, sealed, now)
        try:
            word = line.word(sealed)
        except (ValueError, RecursionError):
            word = None
        if word is None:
            return None
        if line.host:
            return [(SAID, line.host, word)] if word else []
        return self._welcome(line, word, now) if line.is_caller else self._join(line, word)

    def _prove(self, line: _Line, nonce: bytes, now: float) -> list[News]:
        """Answer the leader's number with one of our own."""
        own = os.urandom(NONCE // 2).hex()
        line.session = nonce.decode("ascii", "replace")
        line.say(dict(self._hello(), host=self._here, number=own), now)
        line.session += own
        return []

    def _hello(self) -> Message:
        """Return what a caller says more."""
        return {}

    def _is_ours(self, host: str) -> bool:
        return host in self._spec["hosts"][1:]

    def _welcome(self, line: _Line, word: Message, now: float) -> list[News] | None:
        """Let a host in that has the key, instead of its line before."""
        host, number = str(word.get("host")), str(word.get("number"))
        if not self._is_ours(host) or not _is_nonce(number.encode("ascii", "replace")):
            return None
        before = [o for o in self._lines.values() if o.host == host and o.is_caller]
        news = [one for other in before for one in self._drop(other, now)]
        line.session += number
        line.host = host
        line.say({"welcome": 1, "here": self._here}, now)
        return [*news, (JOINED, host, {})]

    def _join(self, line: _Line, word: Message) -> list[News] | None:
        line.host = self._spec["hosts"][0]
        self._pause = FIRST_PAUSE
        return [(JOINED, line.host, {})]


def _is_nonce(text: bytes) -> bool:
    return len(text) == NONCE and all(one in b"0123456789abcdef" for one in text)


def _end(line: Socket) -> None:
    """Close a line so that what was said arrives: one with something unread would be reset."""
    try:
        line.shutdown(socket.SHUT_WR)
        while line.recv(1 << 16):
            pass
    except OSError:
        pass
    line.close()
