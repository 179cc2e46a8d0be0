"""Passes the blocks of a data set on from host to host, by TLS with certificates of this copy.

Every host of a copy listens, and asks each of the others for blocks that it lacks and the other has, in
any order: who is slow or gone is asked for less, and nobody waits for it. A question is a letter and a
number, and an answer a letter, a length, and a sum, before so many bytes:

``m N``  after at most a second, or as soon as there are not N blocks: ``m`` and a bitmap
``b N``  ``b`` and the block with its sum, or ``n`` and nothing
"""

from __future__ import annotations

import errno
import random
import select
import socket
import ssl
import struct
import threading
import time

from ..base.blocks import Damaged
from ..base.tcp import keep_alive, resolve
from .tls import context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, Dict, List, Protocol, Tuple

    from ..base.messages import PeerSpec

    Peers = Dict[str, List[Tuple[str, int]]]

    class Store(Protocol):
        """The blocks of this host; its methods may be called by any thread."""

        have: int  # a bitmap
        count: int

        def read(self, number: int) -> Tuple[bytearray, bytes]: ...
        def write(self, number: int, data: bytes | bytearray, checksum: bytes) -> None: ...
        def length_of(self, number: int) -> int: ...


#: Seconds for another host to take or send something, and to be reached.
SILENCE, REACH = 20.0, 4.0
#: Seconds between two tries to reach a host: the first pause, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 3.0
#: Seconds without a byte after which a block that was asked for may be asked for again, elsewhere.
OVERDUE = 3.0
#: Seconds for which a host waits for news. A block that came from the source, which nobody else has, is
#: told SOON; one that came from another host, which most have or wait for, LATER. To tell each of many
#: hosts of each block at once costs as much as the blocks.
NEWS, SOON, LATER = 1.0, 0.02, 0.1
#: Damaged blocks after which a host is asked for nothing more.
MOST_BAD = 3
_QUESTION, _ANSWER = struct.Struct(">cI"), struct.Struct(">cI32s")
_MAP, _BLOCK, _NONE = b"m", b"b", b"n"
#: Bytes after which it is noted that more of a block has come; TLS gives 16 KiB at a time.
_HEARD = 1 << 18


class Passing:
    """One host's part in a copy: what it has is given to all who ask, and what it lacks is asked for."""

    def __init__(self, store: Store, spec: PeerSpec, listener: int) -> None:
        """``listener`` is the descriptor of a socket that listens."""
        self.store, self._spec = store, spec
        self._listener = socket.socket(fileno=listener)
        self._listener.settimeout(NEWS)
        self._changed = threading.Condition()
        self._asked: dict[int, float] = {}  # when something of each block on its way came last
        self._over = False
        self._first = 0  # blocks that came from the source
        self.reached: set[str] = set()
        self.took = 0  # bytes that came from other hosts, in whole blocks
        self.heard = 0  # and with what came of others
        self.trouble: OSError | None = None  # this host cannot go on
        _start(self._accept)

    def join(self, peers: Peers) -> None:
        """Ask these hosts, at any of their addresses and ports."""
        secure = context(self._spec, ssl.PROTOCOL_TLS_CLIENT)
        for host, places in peers.items():
            _start(self._ask, host, places, secure)

    def end(self) -> None:
        """Give and ask for nothing more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def arrived(self) -> None:
        """Let the others know that there is a block that came from the source."""
        with self._changed:
            self._first += 1
            self._changed.notify_all()

    # -- giving

    def _accept(self) -> None:
        secure = context(self._spec, ssl.PROTOCOL_TLS_SERVER)
        while not self._over:
            try:
                line = self._listener.accept()[0]
            except socket.timeout:
                continue
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ECONNABORTED):
                    time.sleep(NEWS)
                    continue
                return
            _start(self._serve, line, secure)
        self._listener.close()

    def _serve(self, plain: socket.socket, secure: ssl.SSLContext) -> None:
        try:
            with _secured(plain, secure, True) as line:
                if _name_in(line) not in self._spec["hosts"]:
                    return
                known = -1
                while not self._over:
                    word, number = _QUESTION.unpack(_exactly(line, _QUESTION.size))
                    if word == _MAP:
                        known = self._tell(line, number, known)
                    else:
                        self._give(line, number)
        except (OSError, ValueError):
            pass  # they come back

    def _tell(self, line: ssl.SSLSocket, theirs: int, known: int) -> int:
        """Say what is here, once that is not so many blocks, or after a while; return how many of them
        came from the source. So many were ``known`` before."""
        until = time.monotonic() + NEWS
        with self._changed:
            while self._first == known and not self._over:
                is_new = _count(self.store.have) != theirs
                left = until - time.monotonic()
                if left <= (NEWS - LATER if is_new else 0):
                    break
                self._changed.wait(min(left, LATER))
            is_first, known = self._first != known, self._first
        if is_first:
            time.sleep(SOON)
        bitmap = self.store.have.to_bytes(-(-self.store.count // 8), "little")
        line.sendall(_ANSWER.pack(_MAP, len(bitmap), b"") + bitmap)
        return known

    def _give(self, line: ssl.SSLSocket, number: int) -> None:
        if number < self.store.count and self.store.have >> number & 1:
            try:
                data, checksum = self.store.read(number)
            except OSError:
                pass
            else:
                line.sendall(_ANSWER.pack(_BLOCK, len(data), checksum))
                view = memoryview(data)
                for at in range(0, len(view), 1 << 16):
                    line.sendall(view[at : at + (1 << 16)])
                return
        line.sendall(_ANSWER.pack(_NONE, 0, b""))

    # -- asking

    def _ask(self, host: str, places: list[tuple[str, int]], secure: ssl.SSLContext) -> None:
        pause, bad = FIRST_PAUSE, 0
        while not self._is_done() and bad < MOST_BAD:
            try:
                plain = _reach(places, host, secure, self._is_done)
                if plain is not None:
                    with plain as line:
                        self.reached.add(host)
                        pause = FIRST_PAUSE
                        bad = self._take_all(line, bad)
            except (OSError, ValueError):
                pass
            self.reached.discard(host)
            with self._changed:
                if not self._is_done():
                    self._changed.wait(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)

    def _is_done(self) -> bool:
        is_all = _count(self.store.have) == self.store.count
        return self._over or is_all or self.trouble is not None

    def _take_all(self, line: ssl.SSLSocket, bad: int) -> int:
        """Take what this host lacks and the other one has; return how many blocks were damaged."""
        theirs, known = 0, 0
        while not self._is_done() and bad < MOST_BAD:
            number = self._choose(theirs)
            if number is None:
                line.sendall(_QUESTION.pack(_MAP, known))
                word, size, _ = _ANSWER.unpack(_exactly(line, _ANSWER.size))
                if word != _MAP or size != -(-self.store.count // 8):
                    raise ValueError("not a map")
                theirs = int.from_bytes(_exactly(line, size), "little")
                known = _count(theirs)
                continue
            try:
                got = self._take(line, number)
            finally:
                with self._changed:
                    self._asked.pop(number, None)
            if not got:
                theirs &= ~(1 << number)
                bad += 1
        return bad

    def _choose(self, theirs: int) -> int | None:
        """Return a block to ask for that nobody was asked for yet, or not answered for long."""
        with self._changed:
            wanted = theirs & ~self.store.have
            now = time.monotonic()
            fresh = wanted
            for number in self._asked:
                fresh &= ~(1 << number)
            if not fresh:
                late = [
                    n for n, at in self._asked.items() if wanted >> n & 1 and now > at + OVERDUE
                ]
                if not late:
                    return None
                number = random.choice(late)
            else:
                start = random.randrange(self.store.count)
                above = fresh >> start << start
                chosen = above or fresh
                number = (chosen & -chosen).bit_length() - 1
            self._asked[number] = now
            return number

    def _take(self, line: ssl.SSLSocket, number: int) -> bool:
        line.sendall(_QUESTION.pack(_BLOCK, number))
        word, size, checksum = _ANSWER.unpack(_exactly(line, _ANSWER.size))
        if word == _NONE:
            return False
        if word != _BLOCK or size != self.store.length_of(number):
            raise ValueError("not a block")
        data = _exactly(line, size, lambda got: self._hear(number, got))
        try:
            self.store.write(number, data, checksum)
        except Damaged:
            return False
        except OSError as error:
            self.trouble = error
            return True
        self.took += len(data)
        return True

    def _hear(self, number: int, size: int) -> None:
        with self._changed:
            self.heard += size
            if number in self._asked:
                self._asked[number] = time.monotonic()


def _start(work: Callable[..., None], *arguments: object) -> None:
    thread = threading.Thread(target=work, args=arguments)
    thread.daemon = True
    thread.start()


def _secured(plain: socket.socket, secure: ssl.SSLContext, is_server: bool) -> ssl.SSLSocket:
    try:
        keep_alive(plain)
        plain.settimeout(SILENCE)
        return secure.wrap_socket(plain, server_side=is_server)
    except BaseException:
        plain.close()
        raise


def _reach(
    places: Iterable[tuple[str, int]],
    host: str,
    secure: ssl.SSLContext,
    is_done: Callable[[], bool],
) -> ssl.SSLSocket | None:
    """Return a connection to a host, by the first of its addresses at which it answers: another machine
    may have the same one. All are tried at once."""
    waiting: dict[socket.socket, bool] = {}
    try:
        for address, port in places:
            try:
                family, place = resolve(address, port)
                caller = socket.socket(family, socket.SOCK_STREAM)
                waiting[caller] = True
                caller.setblocking(False)
                caller.connect_ex(place)
            except (OSError, UnicodeError):
                continue
        deadline = time.monotonic() + REACH
        while waiting and time.monotonic() < deadline and not is_done():
            _, ready, _ = select.select([], list(waiting), [], 0.5)
            for caller in ready:
                del waiting[caller]
                if caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    caller.close()
                    continue
                try:
                    line = _secured(caller, secure, False)
                except (OSError, ValueError):
                    continue
                if _name_in(line) == host:
                    return line
                line.close()
        return None
    finally:
        for caller in waiting:
            caller.close()


def _name_in(line: ssl.SSLSocket) -> str | None:
    """Return the host that the other end's certificate names, or None."""
    certificate: Any = line.getpeercert() or {}
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    return names[0] if len(names) == 1 else None


def _exactly(
    line: ssl.SSLSocket, size: int, hear: Callable[[int], None] = lambda got: None
) -> bytearray:
    found = bytearray(size)
    view, at, told = memoryview(found), 0, 0
    while at < size:
        got = line.recv_into(view[at:])
        if not got:
            raise ValueError("the line is broken")
        at += got
        if at >= told + _HEARD or at == size:
            hear(at - told)
            told = at
    return found


def _count(bitmap: int) -> int:
    return bin(bitmap).count("1")
