"""Measures the route to another host: round trip, whether a large piece arrives, bandwidth.

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
#: Round trips, of which the shortest counts; then bytes: more full packets than TCP sends at first.
TRIPS, LARGE = 12, 1 << 15
#: Seconds to wait for the answer after a measurement should be over.
STUCK = 2.5
#: Most bytes that a measurement of bandwidth sends, bytes at a time, and pieces between two polls.
#: Pieces as large as iperf3's: with larger ones the two ends wait for each other.
MOST, PIECE, BURST = 1 << 34, 1 << 17, 32


def _call(address: str, port: int, token: str, verb: bytes) -> socket.socket:
    caller = socket.create_connection((address, port), PATIENCE)
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    caller.sendall(token.encode() + verb + b"\n")
    return caller


def echo(address: str, port: int, token: str) -> tuple[float | None, bool | None]:
    """Return the shortest round trip of a byte in seconds, or None; and whether a large piece
    arrived, None when that is not known."""
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
    """Return bytes a second to the other host, counted there; None when it cannot be measured."""
    answer = b""
    try:
        with _call(address, port, token, b" swallow %.3f" % seconds) as caller:
            # Drop unsent bytes on close: on a slow link they would disturb the next test.
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
    """Send what the other end takes, until it answers; return the answer."""
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
    """Send up to BURST pieces without blocking; return the bytes sent."""
    sent = 0
    try:
        for _ in range(BURST):
            sent += caller.send(piece)
    except BlockingIOError:
        pass
    return sent
