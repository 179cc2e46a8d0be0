"""Measures how fast the way to another host is: round trips, whether much comes through, bandwidth.

Bounded in time and in bytes.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time

#: Seconds for a connection, and for each answer.
PATIENCE = 3.0
#: Round trips; the shortest counts. Then so many bytes: more full packets than TCP sends at first.
TRIPS, LARGE = 12, 1 << 15
#: Seconds more than a measurement takes, after which nothing more is waited for.
STUCK = 2.5
#: Bytes that a measurement of speed may send at most, at a time, and how often without a look. Pieces
#: as those of iperf3: with larger ones the two ends wait for each other instead of working at once.
MOST, PIECE, BURST = 1 << 34, 1 << 17, 32


def _call(address: str, port: int, token: str, verb: bytes) -> socket.socket:
    caller = socket.create_connection((address, port), PATIENCE)
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    caller.sendall(token.encode() + verb + b"\n")
    return caller


def echo(address: str, port: int, token: str) -> tuple[float | None, bool | None]:
    """Seconds of the shortest of some round trips of a byte, or None; and whether a large piece came
    through, None when nobody can say."""
    best, large = None, None
    try:
        with _call(address, port, token, b" echo %d %d" % (TRIPS, LARGE)) as caller:
            for _ in range(TRIPS):
                started = time.perf_counter()
                caller.sendall(b".")
                if not caller.recv(1):
                    return best, large
                trip = time.perf_counter() - started
                best = trip if best is None else min(best, trip)
            large = False
            caller.sendall(bytes(LARGE))
            large = bool(caller.recv(1)) or None
    except socket.timeout:
        pass
    except OSError:
        large = None
    return best, large


def bandwidth(address: str, port: int, token: str, seconds: float) -> float | None:
    """Bytes a second towards the other host, counted there; None when it could not be measured."""
    answer = b""
    try:
        with _call(address, port, token, b" swallow %.3f" % seconds) as caller:
            # What was not sent yet must not fill a slow line while the next test is under way.
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            caller.setblocking(False)
            answer = _pour(caller, time.monotonic() + seconds + STUCK)
    except OSError:
        pass
    try:
        rate: float | None = json.loads(answer.decode())["rate"]
        return rate
    except ValueError:
        return None


def _pour(caller: socket.socket, deadline: float) -> bytes:
    """Sends what the other end takes, until it answers; its answer."""
    piece = bytes(PIECE)
    poll = select.poll()
    poll.register(caller.fileno(), select.POLLIN | select.POLLOUT)
    sent, answer = 0, b""
    while not answer.endswith(b"\n") and time.monotonic() < deadline:
        for _, event in poll.poll(500):
            if event & ~select.POLLOUT:
                heard = caller.recv(4096)
                if not heard:
                    return answer
                answer += heard
            elif sent < MOST:
                sent += _some(caller, piece)
            else:
                poll.modify(caller.fileno(), select.POLLIN)
    return answer


def _some(caller: socket.socket, piece: bytes) -> int:
    """Several pieces, as long as there is room: between two looks for an answer."""
    sent = 0
    try:
        for _ in range(BURST):
            sent += caller.send(piece)
    except BlockingIOError:
        pass
    return sent
