"""Answers the network tests of other hosts that have the token: echoes bytes, or counts them.

It runs in threads of the relay, and stops with it.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import select
import socket
import struct
import threading
import time

from ..base.tcp import bound, listen

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: How many ports to try, from each wanted one upwards, when it is taken.
NEXT_PORTS = 50
#: Seconds that one caller may take in all, and without sending a byte.
CALL, SILENCE = 10.0, 3.0
#: Connections in a port's backlog, and callers that have not sent a line: all hosts call at once.
BACKLOG, MOST_CALLERS = 256, 400
LINE, PIECE = 200, 1 << 17
#: The part of a measurement that is dropped, while TCP still increases its rate.
WARM_UP = 0.25


class EchoServer:
    """Listens on a free port near each wanted one, on one that the kernel chooses, and for UDP."""

    def __init__(self, wanted: list[int], token: str) -> None:
        """Start to listen. Raises OSError where no port can be listened on."""
        _allow_callers()
        self.token = token.encode()
        found = [self._listen(port) for port in wanted]
        self.high = self._listen(0)
        self.listeners = [each for each in found + [self.high] if each]
        if not self.high:
            for each in self.listeners:
                each.close()
            raise OSError(errno.EADDRNOTAVAIL, "no port can be listened on")
        self.udp = bound(socket.SOCK_DGRAM, 0)
        #: By file descriptor: the socket, and the moment by which it must have sent something.
        self._callers: dict[int, tuple[socket.socket, float]] = {}
        self._wake, self._end = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _listen(self, wanted: int) -> socket.socket | None:
        for port in range(wanted, wanted + NEXT_PORTS) if wanted else [0]:
            try:
                return listen(port, backlog=BACKLOG)
            except (OSError, OverflowError):
                continue
        return None

    def places(self) -> dict[str, Any]:
        """Return ``{"ports", "high", "udp"}`` to call; ``high`` is of the kernel's ephemeral range."""
        ports = [each.getsockname()[1] for each in self.listeners]
        return {"ports": ports[:-1], "high": ports[-1], "udp": self.udp.getsockname()[1]}

    def close(self) -> None:
        """Stop answering."""
        os.close(self._end)
        self._thread.join()
        os.close(self._wake)
        for each in [self.udp] + self.listeners + [caller for caller, _ in self._callers.values()]:
            each.close()

    # -- one thread for callers that only say hello, which is nearly all; one more for each other one

    def _serve(self) -> None:
        poll = select.poll()
        own = {each.fileno(): each for each in [self.udp] + self.listeners}
        for number in [self._wake] + list(own):
            poll.register(number, select.POLLIN)
        while True:
            ready = [number for number, _ in poll.poll(1000)]
            if self._wake in ready:
                return
            for number in ready:
                try:
                    if number == self.udp.fileno():
                        self._answer_packet()
                    elif number in own:
                        self._welcome(own[number].accept()[0], poll)
                    elif number in self._callers:
                        self._hear(number, poll)
                except OSError:
                    continue
            now = time.monotonic()
            for number in [n for n, (_, until) in self._callers.items() if until < now]:
                self._forget(number, poll).close()

    def _welcome(self, caller: socket.socket, poll: select.poll) -> None:
        if len(self._callers) >= MOST_CALLERS:
            caller.close()
            return
        caller.setblocking(False)
        self._callers[caller.fileno()] = (caller, time.monotonic() + SILENCE)
        poll.register(caller.fileno(), select.POLLIN)

    def _forget(self, number: int, poll: select.poll) -> socket.socket:
        poll.unregister(number)
        return self._callers.pop(number)[0]

    def _hear(self, number: int, poll: select.poll) -> None:
        """Read the first line of a caller. After a hello the caller closes, and this is called again."""
        caller = self._callers[number][0]
        try:
            line, end, _ = caller.recv(LINE, socket.MSG_PEEK).partition(b"\n")
            words = line.split()
            if end and words[:1] == [self.token]:
                caller.recv(len(line) + 1)
                if words[1:] == [b"hello"]:
                    caller.sendall(self.token)
                    return
                self._forget(number, poll)
                threading.Thread(target=self._answer, args=(caller, words), daemon=True).start()
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self._forget(number, poll).close()

    def _answer_packet(self) -> None:
        """Answer a packet of any size with a small one that says how large it was."""
        data, caller = self.udp.recvfrom(1 << 16)
        if data.startswith(self.token):
            self.udp.sendto(self.token + b" %d" % len(data), caller)

    def _answer(self, caller: socket.socket, words: list[bytes]) -> None:
        with caller:
            try:
                # Not settimeout, which polls before every read.
                caller.setblocking(True)
                patience = struct.pack("@ll", int(SILENCE), 0)
                caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
                if words[1] == b"echo":
                    self._echo(caller, int(words[2]), int(words[3]))
                elif words[1] == b"swallow":
                    self._swallow(caller, min(float(words[2]), CALL))
            except (OSError, ValueError, IndexError):
                pass

    def _echo(self, caller: socket.socket, trips: int, large: int) -> None:
        """Send each of ``trips`` bytes back; then send one byte after ``large`` more have arrived."""
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deadline = time.monotonic() + CALL
        while trips and time.monotonic() < deadline:
            data = caller.recv(1)
            if not data:
                return
            caller.sendall(data)
            trips -= 1
        while large > 0 and time.monotonic() < deadline:
            data = caller.recv(1 << 16)
            if not data:
                return
            large -= len(data)
        caller.sendall(b".")

    def _swallow(self, caller: socket.socket, seconds: float) -> None:
        """Read for ``seconds``, then send the rate in bytes a second."""
        buffer = bytearray(PIECE)
        marks, total = [], 0
        deadline = None
        while deadline is None or time.monotonic() < deadline:
            count = caller.recv_into(buffer)
            if not count:
                break
            now = time.monotonic()
            deadline = deadline or now + seconds
            total += count
            marks.append((now, total))
        caller.sendall(json.dumps({"rate": rate(marks), "bytes": total}).encode() + b"\n")
        deadline = time.monotonic() + SILENCE
        while time.monotonic() < deadline and caller.recv_into(buffer):
            pass  # closing now would discard the answer


def _allow_callers() -> None:
    """Raise the limit of file descriptors to what the callers need, as far as the host allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MOST_CALLERS if hard == resource.RLIM_INFINITY else min(hard, 2 * MOST_CALLERS)
    if 0 <= soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def rate(marks: list[tuple[float, int]]) -> float | None:
    """Return bytes a second from ``(time, bytes so far)``, without the warm-up; None from too few."""
    if len(marks) < 2:
        return None
    start = marks[0][0] + WARM_UP * (marks[-1][0] - marks[0][0])
    first = next(mark for mark in marks if mark[0] >= start)
    if marks[-1][0] <= first[0]:
        return None
    return (marks[-1][1] - first[1]) / (marks[-1][0] - first[0])
