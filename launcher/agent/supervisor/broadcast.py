"""Tells all hosts of a run that it is over, or that a primary process has finished, with or without
a launcher attached.

All hosts connect to the first one, the hub, which passes every message on. A message is one line of
text, authenticated with a key of this attempt. It is not secret and may be received twice, so after
a lost connection a host connects again and repeats everything.
"""

from __future__ import annotations

import errno
import select
import time
from _operator import _compare_digest as same

from ..base import lean
from ..base.lean import Socket, socket
from ..base.protocol import blake2b
from ..base.tcp import family_of, keep_alive, listen, own_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..base.messages import BroadcastSpec, Message

#: Seconds between two tries to reach the hub: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 15.0
#: Seconds to connect, and for a caller to send a message of this run.
PATIENCE = 10.0
#: Most bytes of a message, and most connections beyond those of the run's hosts.
LONGEST_WORD, STRANGERS = 4096, 16


#: For a run whose hosts do not know each other.
NOBODY: BroadcastSpec = {"hub": "", "address": "", "port": 0, "key": "", "hosts": 0}


class _Line:
    def __init__(self, proven: bool) -> None:
        self.proven, self.since, self.buffer = proven, time.monotonic(), b""


class Broadcast:
    """One host's part. Calls ``heard(word)`` with every message of another host, once.

    Without a ``spec`` there are no other hosts. Raises OSError when this is the hub and it cannot
    listen.
    """

    def __init__(
        self, heard: Callable[[Message], object], host: str = "", spec: BroadcastSpec | None = None
    ) -> None:
        self._heard, self._host, self._spec = heard, host, spec or NOBODY
        self._said: dict[bytes, None] = {}  # all sealed messages, in order
        self._lines: dict[Socket, _Line] = {}
        self._listener: Socket | None = None
        self._dialled: Socket | None = None
        self._pause, self.next_look = FIRST_PAUSE, float("inf")
        if spec and spec["hub"] == host:
            self._listener = listen(spec["port"], own_address(spec["address"]))
            self._listener.setblocking(False)
        elif spec:
            self.next_look = 0.0

    # -- for the supervisor's loop

    @property
    def readable(self) -> list[Socket]:
        """The sockets to read from."""
        return ([self._listener] if self._listener else []) + list(self._lines)

    @property
    def writable(self) -> list[Socket]:
        """The socket that is connecting, if any."""
        return [self._dialled] if self._dialled else []

    def look(self, ready: Socket) -> None:
        """Handle a socket that is ready; ignore one that is not ours."""
        if ready is self._listener:
            self._accept(ready)
        elif ready is self._dialled:
            self._connected(ready)
        elif ready in self._lines:
            self._read(ready)

    def keep_time(self, now: float) -> None:
        """Connect to the hub when that is due; close connections that have not proven themselves."""
        if now < self.next_look:
            return
        silent = [s for s, line in self._lines.items() if now - line.since > PATIENCE]
        for stranger in [s for s in silent if not self._lines[s].proven]:
            self._drop(stranger)
        self.next_look = float("inf")
        if self._listener:
            if any(not line.proven for line in self._lines.values()):
                self.next_look = now + PATIENCE
        elif self._dialled:
            self._failed(self._dialled)
        elif not self._lines:
            self._dial(now)

    # -- words

    def tell(self, **word: Any) -> None:
        """Tell all other hosts, now or as soon as they can be reached again."""
        if self._spec is not NOBODY:
            self._spread(self._seal(dict(word, host=self._host)), None)

    def _spread(self, sealed: bytes, source: Socket | None) -> None:
        self._said[sealed] = None
        for line in [s for s, known in self._lines.items() if known.proven and s is not source]:
            self._send(line, sealed)

    def _seal(self, word: Message) -> bytes:
        text = lean.dumps(dict(sorted(word.items()))).encode("ascii")
        return self._mark(text) + b" " + text

    def _unseal(self, sealed: bytes) -> Message | None:
        """Return the message, or None if it is not authentic. The hmac module would load OpenSSL."""
        mark, _, text = sealed.partition(b" ")
        word: Message | None = (
            lean.loads(text.decode("ascii")) if same(mark, self._mark(text)) else None
        )
        return word

    def _mark(self, text: bytes) -> bytes:
        key = self._spec["key"].encode("ascii")
        return blake2b(text, key=key, digest_size=16).hexdigest().encode("ascii")

    # -- lines

    def _accept(self, listener: Socket) -> None:
        try:
            caller = listener.accept()[0]
        except OSError:
            return
        if len(self._lines) >= self._spec["hosts"] + STRANGERS:
            caller.close()
            return
        self._begin(caller, proven=False)
        self.next_look = min(self.next_look, time.monotonic() + PATIENCE)

    def _begin(self, line: Socket, proven: bool) -> None:
        line.setblocking(False)
        keep_alive(line)
        self._lines[line] = _Line(proven)

    def _dial(self, now: float) -> None:
        line = self._dialled = Socket(family_of(self._spec["address"]), socket.SOCK_STREAM)
        line.setblocking(False)
        code = line.connect_ex((self._spec["address"], self._spec["port"]))
        self.next_look = now + PATIENCE
        if code not in (0, errno.EINPROGRESS):
            self._failed(line)

    def _connected(self, line: Socket) -> None:
        if line.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._failed(line)
            return
        self._dialled = None
        self._begin(line, proven=True)
        self.next_look = float("inf")
        for sealed in [self._seal({"host": self._host}), *self._said]:
            self._send(line, sealed)

    def _failed(self, line: Socket) -> None:
        line.close()
        self._dialled = None
        self._dial_later()

    def _dial_later(self) -> None:
        self.next_look = time.monotonic() + self._pause
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def _send(self, line: Socket, sealed: bytes) -> None:
        """Send a message; drop a connection that does not take it at once, since it is short."""
        try:
            if line in self._lines and line.send(sealed + b"\n") == len(sealed) + 1:
                return
        except OSError:
            pass
        self._drop(line)

    def _drop(self, line: Socket) -> None:
        known = self._lines.pop(line, None)
        if known:
            line.close()
            if not self._listener:
                if time.monotonic() - known.since > PATIENCE:  # the connection had worked
                    self._pause = FIRST_PAUSE
                self._dial_later()

    def _read(self, line: Socket) -> None:
        try:
            data = line.recv(LONGEST_WORD)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        known = self._lines[line]
        *words, known.buffer = (known.buffer + data).split(b"\n")
        for sealed in words:
            word = self._unseal(sealed)
            if word is None:
                data = b""  # not a host of this run
                break
            self._take(line, known, sealed, word)
        if not data or len(known.buffer) > LONGEST_WORD:
            self._drop(line)

    def _take(self, line: Socket, known: _Line, sealed: bytes, word: Message) -> None:
        if not known.proven:
            known.proven = True
            for said in self._said:
                self._send(line, said)
        if len(word) > 1 and sealed not in self._said:
            self._spread(sealed, line)
            self._heard(word)

    # -- the end

    @property
    def descriptors(self) -> set[int]:
        """The descriptors of all open sockets."""
        return {s.fileno() for s in self.readable + self.writable}

    def close(self) -> None:
        """Close all connections; what was sent still arrives."""
        for line in self.readable + self.writable:
            line.close()
        self._listener = self._dialled = None
        self._lines = {}

    @property
    def is_needed(self) -> bool:
        """Whether this is the hub and other hosts are connected."""
        return self._listener is not None and any(x.proven for x in self._lines.values())

    def pass_on(self) -> None:
        """Pass messages on until all other hosts are gone, in a hub whose own part is over."""
        self._heard = lambda word: None
        while self.is_needed:
            for ready in select.select(self.readable, [], [], PATIENCE)[0]:
                self.look(ready)
            self.keep_time(time.monotonic())
