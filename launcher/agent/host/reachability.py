"""Tests the routes to other hosts: which address, which ports, how large a packet.

Bounded in time and in bytes.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time

from ..base.tcp import family_of
from .probe import addresses
from .speed import echo
from .survey import mtu_of, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Route(TypedDict):
        """What to test of another host: addresses with their MTU there, ports, and the token."""

        addresses: list[tuple[str, int | None]]
        ports: list[int]
        udp: int
        token: str

    class State(TypedDict):
        """What is known of one address: why ports do not answer, and the local interface."""

        closed: dict[int, str]
        interface: str | None


#: Seconds for ports to answer, and for other addresses once one has answered on all ports.
PATIENCE, REST = 3.0, 0.3
#: Seconds for the program behind an open port: no firewall is in between, but the host may be busy.
TALK = 10.0
#: Why a port is closed that accepts the connection and then stays silent; also in
#: launcher.fleet.findings.pair.
SILENT = "connects, but nothing answers"
#: Seconds for packets of one size to be answered; a lost one is tried again. And for the size that seems
#: to be too large: a busy host answers late.
PACKET, LATE = 0.25, 1.0
#: Seconds to resolve the names of all other hosts.
NAMES = 3.0
#: Bytes of IP and UDP headers; the smallest packet that every route passes (RFC 791, RFC 8200).
LEAST: dict[int, tuple[int, int]] = {socket.AF_INET: (28, 576), socket.AF_INET6: (48, 1280)}
#: linux/in.h and in6.h: set "don't fragment", and ignore the path MTU that the kernel remembers.
PROBE: dict[int, tuple[int, int, int]] = {
    socket.AF_INET: (socket.IPPROTO_IP, 10, 3),
    socket.AF_INET6: (socket.IPPROTO_IPV6, 23, 3),
}


def resolve_all(names: list[str]) -> dict[str, list[str] | None]:
    """Return ``{name: its addresses here}``; None for a name that took too long to resolve."""
    found = dict.fromkeys(names)

    def ask(name: str) -> None:
        found[name] = resolve(name)

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in names]
    deadline = time.monotonic() + NAMES
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return dict(found)


def explore(routes: list[Route]) -> list[dict[str, Any]]:
    """Test the routes to other hosts, all at once.

    Each is measured at the first of its ``addresses`` (``[[ip, MTU there], ...]``, best first) that
    answers on all ``ports``, else at the one that answers on most. The result of a route is
    ``{"address", "interface", "closed": {port: why}, "complete": [addresses], "mtu",
    "mtu_expected", "round_trip", "large"}``.
    """
    results, threads = [], []
    states = reach(routes)
    for number, route in enumerate(routes):
        results.append(_best(route, states[number]))
        threads.append(threading.Thread(target=_measure, args=(route, results[-1]), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def _best(route: Route, states: dict[str, State]) -> dict[str, Any]:
    order = [ip for ip, _ in route["addresses"]]
    best = min(order, key=lambda ip: len(states[ip]["closed"]))
    complete = [ip for ip in order if not states[ip]["closed"]]
    return dict(states[best], complete=complete, address=best)


def _measure(route: Route, result: dict[str, Any]) -> None:
    """Add the path MTU, the round trip and whether a large piece arrives."""
    best = result["address"]
    open_ports = [port for port in route["ports"] if port not in result["closed"]]
    if not open_ports:
        result["address"] = None
        return
    local = mtu_of(result["interface"]) if result["interface"] else None
    sizes = [size for size in (local, dict(route["addresses"])[best]) if size]
    result["mtu_expected"] = min(sizes) if sizes else None
    if sizes:
        result["mtu"] = path_mtu(best, route["udp"], route["token"], min(min(sizes), 65000))
    result["round_trip"], result["large"] = echo(best, open_ports[-1], route["token"])


def reach(routes: list[Route]) -> list[dict[str, State]]:
    """Try all addresses at once; return ``{address: state}`` for each route."""
    calls = Calls()
    for number, route in enumerate(routes):
        for ip, _ in route["addresses"]:
            calls.begin(number, ip, route["ports"], route["token"].encode() + b" hello\n")
    calls.wait()
    return [calls.found.get(number, {}) for number in range(len(routes))]


class Calls:
    """Connections to many ports of many hosts, all open at the same time."""

    def __init__(self) -> None:
        self.found: dict[int, dict[str, State]] = {}
        #: By file descriptor: socket, number of the route, port, what is known, hello.
        self._open: dict[int, tuple[socket.socket, int, int, State, bytes]] = {}
        self._until: dict[int, float] = {}  # by route
        self._talk: dict[int, float] = {}  # by file descriptor, once connected
        self._whole: set[int] = set()  # routes with an address that answers on all ports
        self._poll = select.poll()
        self._own = {ip: name for name, ip in addresses()}

    def begin(self, route: int, ip: str, ports: list[int], hello: bytes) -> None:
        """Connect to all ports of an address."""
        state: State = {"closed": dict.fromkeys(ports, "no answer"), "interface": None}
        self.found.setdefault(route, {})[ip] = state
        self._until[route] = time.monotonic() + PATIENCE
        for port in ports:
            caller = socket.socket(family_of(ip), socket.SOCK_STREAM)
            caller.setblocking(False)
            code = caller.connect_ex((ip, port))
            if code in (0, errno.EINPROGRESS):
                self._open[caller.fileno()] = (caller, route, port, state, hello)
                self._poll.register(caller.fileno(), select.POLLOUT)
            else:
                state["closed"][port] = os.strerror(code)
                caller.close()

    def wait(self) -> None:
        """Wait until all have answered or run out of time."""
        while self._open:
            soonest = min(map(self._deadline, self._open))
            for number, event in self._poll.poll(max(0.0, soonest - time.monotonic()) * 1000):
                self._hear(number, event)
            now = time.monotonic()
            for number in [n for n in self._open if self._deadline(n) <= now]:
                self._forget(number)

    def _deadline(self, number: int) -> float:
        route = self._open[number][1]
        until = self._until[route]
        return until if route in self._whole else max(until, self._talk.get(number, until))

    def _forget(self, number: int) -> None:
        self._poll.unregister(number)
        self._talk.pop(number, None)  # the next descriptor may have this number
        self._open.pop(number)[0].close()

    def _hear(self, number: int, event: int) -> None:
        caller, route, port, state, hello = self._open[number]
        error = caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if event == select.POLLOUT and not error:
            error = _send(caller, hello)
            if not error:
                self._poll.modify(number, select.POLLIN)
                self._talk[number] = time.monotonic() + TALK
                state["closed"][port] = SILENT
                return
        why = _reason(error) if error else _heard(caller, hello)
        if why is None:
            del state["closed"][port]
            state["interface"] = self._own.get(caller.getsockname()[0])
        else:
            state["closed"][port] = why
        self._forget(number)
        if not state["closed"]:  # one address with all ports is enough: wait little for the others
            self._whole.add(route)
            self._until[route] = min(self._until[route], time.monotonic() + REST)


def _send(caller: socket.socket, hello: bytes) -> int:
    try:
        caller.send(hello)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _heard(caller: socket.socket, hello: bytes) -> str | None:
    """Return None when the agent of the other host answered, else why not."""
    try:
        heard = caller.recv(256)
    except OSError as error:
        return _reason(error.errno) if error.errno else str(error)
    return None if heard == hello.split()[0] else "another program answers"


def _reason(number: int) -> str:
    return "refused" if number == errno.ECONNREFUSED else os.strerror(number)


def path_mtu(address: str, port: int, token: str, largest: int) -> int | None:
    """Return the largest packet up to ``largest`` bytes that arrives without fragmentation.

    None when not even a small one does: UDP is blocked.
    """
    family = family_of(address)
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(*PROBE[family])
        sender.connect((address, port))
        for _ in range(2):
            if _come_through(sender, token, {largest}, PACKET):
                return largest
        smallest = LEAST[family][1]
        passes = _largest(sender, token, smallest - 1, largest, PACKET)
        if _come_through(sender, token, {passes + 1}, LATE):
            passes = _largest(sender, token, passes + 1, largest + 1, LATE)
        return passes if passes >= smallest else None


def _largest(sender: socket.socket, token: str, passes: int, fails: int, seconds: float) -> int:
    """Return the largest size that comes through; each try may take so many seconds."""
    while fails - passes > 1:
        step = max(1, (fails - passes) // 16)
        sizes = set(range(passes + step, fails, step)) | {passes + 1}
        good = _come_through(sender, token, sizes, seconds)
        if not good:
            good = _come_through(sender, token, {passes + 1}, seconds)
        if not good:
            break
        passes = max(good)
        fails = min([size for size in sizes if size > passes] + [fails])
    return passes


def _come_through(sender: socket.socket, token: str, sizes: set[int], seconds: float) -> set[int]:
    """Return those of ``sizes`` that were answered within so many seconds."""
    good: set[int] = set()
    hello, headers = token.encode(), LEAST[sender.family][0]
    for size in sizes:
        try:
            sender.send(hello.ljust(size - headers, b"."))
        except OSError:  # EMSGSIZE: larger than the MTU of our own interface
            pass
    deadline = time.monotonic() + seconds
    while good != sizes:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([sender], [], [], left)[0]:
            break
        try:
            words = sender.recv(256).split()
        except OSError:  # "port unreachable" came back
            break
        # Others are late answers to an earlier try, or no answers at all.
        if words[:1] == [hello] and words[1:] and words[1].isdigit():
            good |= {int(words[1]) + headers} & sizes
    return good
