"""Tests the way to another host: which address, which ports, how large a packet, how fast.

Not responsible for the other end (:mod:`.mirror`) or for what the numbers mean. Bounded in time and
in bytes.
"""

import errno
import json
import os
import select
import socket
import struct
import threading
import time

from .probe import interface_of
from .survey import mtu_of, resolve

#: Seconds for ports to answer, and for the rest of them once one address has answered on all.
PATIENCE, REST = 3.0, 0.3
#: Seconds for packets of one size to be answered; the second try is for a lost one.
PACKET = 0.25
#: Round trips; the shortest counts.
TRIPS = 12
#: Seconds more than a measurement takes, after which nothing large comes through.
STUCK = 2.5
#: Bytes that a measurement of speed may send at most.
MOST = 1 << 30
#: Seconds for all names of the other hosts.
NAMES = 3.0
#: Bytes of IPv4 and UDP headers; the smallest packet that everybody has to take (RFC 791).
HEADERS, SMALLEST = 28, 576
#: linux/in.h: set "don't fragment", and ignore what the kernel knows of the path.
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3


def resolve_all(names):
    """``{name: its addresses here}``; None for a name whose answer did not come in time."""
    found = dict.fromkeys(names)

    def ask(name):
        found[name] = resolve(name)

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    deadline = time.monotonic() + NAMES
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def explore(addresses, ports, udp, token, seconds):
    """The way to a host by the first of its ``addresses`` (``[[ip, MTU there], ...]``, best first)
    that answers on all ``ports``, else on most.

    ``{"address", "interface", "closed": {port: why}, "complete": [addresses], "mtu",
    "mtu_expected", "round_trip", "bandwidth"}``; ``seconds`` are for the bandwidth.
    """
    states = reach([ip for ip, _ in addresses], ports, token)
    complete = [ip for ip, _ in addresses if not states[ip]["closed"]]
    best = min((ip for ip, _ in addresses), key=lambda ip: len(states[ip]["closed"]))
    told = dict(states[best], complete=complete, address=best)
    open_ports = [port for port in ports if port not in told["closed"]]
    if not open_ports:
        told["address"] = None
        return told
    local = mtu_of(told["interface"]) if told["interface"] else None
    sizes = [size for size in (local, dict(addresses)[best]) if size]
    told["mtu_expected"] = min(sizes) if sizes else None
    if sizes:
        told["mtu"] = path_mtu(best, udp, token, min(min(sizes), 65000))
    told["round_trip"] = round_trip(best, open_ports[-1], token)
    told["bandwidth"] = bandwidth(best, open_ports[-1], token, seconds)
    return told


def reach(addresses, ports, token):
    """``{address: {"closed": {port: why}, "interface"}}``, all tried at once."""
    hello = token.encode()
    found = {
        ip: {"closed": dict.fromkeys(ports, "no answer"), "interface": None} for ip in addresses
    }
    callers = {}
    for ip in addresses:
        for port in ports:
            caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            caller.setblocking(False)
            code = caller.connect_ex((ip, port))
            if code in (0, errno.EINPROGRESS):
                callers[caller.fileno()] = (caller, ip, port)
            else:
                found[ip]["closed"][port] = os.strerror(code)
                caller.close()
    poll = select.poll()
    for number in callers:
        poll.register(number, select.POLLOUT)
    deadline = time.monotonic() + PATIENCE
    hurried = False
    while callers and time.monotonic() < deadline:
        for number, event in poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            caller, ip, port = callers[number]
            if event == select.POLLOUT and not caller.getsockopt(
                socket.SOL_SOCKET, socket.SO_ERROR
            ):
                caller.send(hello + b" hello\n")
                poll.modify(number, select.POLLIN)
                continue
            why = _heard(caller, hello)
            if why is None:
                del found[ip]["closed"][port]
                found[ip]["interface"] = interface_of(caller.getsockname()[0])
            else:
                found[ip]["closed"][port] = why
            poll.unregister(number)
            callers.pop(number)[0].close()
        if not hurried and any(not state["closed"] for state in found.values()):
            hurried, deadline = True, min(deadline, time.monotonic() + REST)
    for caller, _, _ in callers.values():
        caller.close()
    return found


def _heard(caller, hello):
    """None when the right one answered, else why not."""
    try:
        heard = caller.recv(256)
    except ConnectionRefusedError:
        return "refused"
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
    return None if heard == hello else "another program answers"


def path_mtu(address, port, token, largest):
    """The largest packet up to ``largest`` bytes that comes through whole; None when not even a
    small one does (UDP is blocked)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        sender.connect((address, port))
        if _come_through(sender, token, {largest}) or _come_through(sender, token, {largest}):
            return largest
        passes, fails = SMALLEST - 1, largest
        while fails - passes > 1:
            step = max(1, (fails - passes) // 16)
            sizes = set(range(passes + step, fails, step)) | {passes + 1}
            good = _come_through(sender, token, sizes)
            if not good:
                good = _come_through(sender, token, {passes + 1})
            if not good:
                break
            passes = max(good)
            fails = min([size for size in sizes if size > passes] + [fails])
        return passes if passes >= SMALLEST else None


def _come_through(sender, token, sizes):
    """Those of ``sizes`` that were answered; no longer waited for than ``PACKET``."""
    good, hello = set(), token.encode()
    for size in sizes:
        try:
            sender.send(hello.ljust(size - HEADERS, b"."))
        except OSError:  # EMSGSIZE: larger than our own interface takes
            pass
    deadline = time.monotonic() + PACKET
    while good < sizes:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([sender], [], [], left)[0]:
            break
        try:
            words = sender.recv(256).split()
        except OSError:  # "port unreachable" came back
            break
        if words[:1] == [hello]:
            good.add(int(words[1]) + HEADERS)
    return good & sizes


def _call(address, port, token, verb):
    caller = socket.create_connection((address, port), PATIENCE)
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    caller.sendall(token.encode() + verb + b"\n")
    return caller


def round_trip(address, port, token):
    """Seconds of the shortest of some round trips of a byte, or None."""
    best = None
    try:
        with _call(address, port, token, b" echo") as caller:
            for _ in range(TRIPS):
                started = time.perf_counter()
                caller.sendall(b".")
                if not caller.recv(1):
                    break
                trip = time.perf_counter() - started
                best = trip if best is None else min(best, trip)
    except OSError:
        pass
    return best


def bandwidth(address, port, token, seconds):
    """Bytes a second towards the other host, counted there; 0.0 when nothing large comes through."""
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
        return json.loads(answer.decode())["rate"] or 0.0
    except ValueError:
        return 0.0
