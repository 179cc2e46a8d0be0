"""Measures how fast the way to another host is: round trips, whether much comes through, bandwidth.

Not responsible for the other end (:mod:`.mirror`), or for which address and port (:mod:`.paths`).
Bounded in time and in bytes.
"""

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
#: Bytes that a measurement of speed may send at most.
MOST = 1 << 32


def _call(address, port, token, verb):
    caller = socket.create_connection((address, port), PATIENCE)
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    caller.sendall(token.encode() + verb + b"\n")
    return caller


def echo(address, port, token):
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


def bandwidth(address, port, token, seconds):
    """Bytes a second towards the other host, counted there; None when it could not be measured."""
    piece = memoryview(bytes(1 << 20))
    sent, deadline = 0, time.monotonic() + seconds + STUCK
    answer = b""
    try:
        with _call(address, port, token, b" swallow %.3f" % seconds) as caller:
            caller.setblocking(False)
            # What was not sent yet must not fill a slow line while the next test is under way.
            caller.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            while not answer.endswith(b"\n") and time.monotonic() < deadline:
                sending = [caller] if sent < MOST else []
                readable, writable, _ = select.select([caller], sending, [], 0.5)
                if readable:
                    heard = caller.recv(4096)
                    if not heard:
                        break
                    answer += heard
                elif writable:
                    sent += caller.send(piece)
                    if sent >= MOST:
                        caller.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    try:
        return json.loads(answer.decode())["rate"]
    except ValueError:
        return None
