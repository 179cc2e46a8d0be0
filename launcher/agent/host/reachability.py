"""Tests the ways to other hosts: which address, which ports, how large a packet.

Bounded in time and in bytes.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time

from .probe import addresses
from .speed import echo
from .survey import mtu_of, resolve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    class Route(TypedDict):
        """What is asked about another host: addresses with the MTU there, ports, and the token."""

        addresses: list[tuple[str, int | None]]
        ports: list[int]
        udp: int
        token: str

    class State(TypedDict):
        """What is known of one address: why ports do not answer, and by which interface."""

        closed: dict[int, str]
        interface: str | None


#: Seconds for ports to answer, and for the rest of them once one address has answered on all.
PATIENCE, REST = 3.0, 0.3
#: Seconds for the program behind a port whose kernel has answered: no firewall, but maybe a busy host.
TALK = 10.0
#: Why a port is no good that takes the connection, and then is silent.
SILENT = "connects, and nobody answers"
#: Seconds for packets of one size to be answered; the second try is for a lost one.
PACKET = 0.25
#: Seconds for all names of the other hosts.
NAMES = 3.0
#: Bytes of IPv4 and UDP headers; the smallest packet that everybody has to take (RFC 791).
HEADERS, SMALLEST = 28, 576
#: linux/in.h: set "don't fragment", and ignore what the kernel knows of the path.
IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 10, 3


def resolve_all(names: list[str]) -> dict[str, list[str] | None]:
    """``{name: its addresses here}``; None for a name whose answer did not come in time."""
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


def explore(ways: list[Route]) -> list[dict[str, Any]]:
    """The ways to other hosts, all at once; of each, by the first of its ``addresses`` (``[[ip, MTU
    there], ...]``, best first) that answers on all ``ports``, else on most.

    A way is ``{"addresses", "ports", "udp", "token"}``; what is told of it is ``{"address",
    "interface", "closed": {port: why}, "complete": [addresses], "mtu", "mtu_expected",
    "round_trip", "large"}``.
    """
    told, threads = [], []
    states = reach(ways)
    for number, way in enumerate(ways):
        told.append(_best(way, states[number]))
        threads.append(threading.Thread(target=_measure, args=(way, told[-1]), daemon=True))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def _best(way: Route, states: dict[str, State]) -> dict[str, Any]:
    order = [ip for ip, _ in way["addresses"]]
    best = min(order, key=lambda ip: len(states[ip]["closed"]))
    complete = [ip for ip in order if not states[ip]["closed"]]
    return dict(states[best], complete=complete, address=best)


def _measure(way: Route, told: dict[str, Any]) -> None:
    """Adds the size of packets, the round trip and whether much comes through."""
    best = told["address"]
    open_ports = [port for port in way["ports"] if port not in told["closed"]]
    if not open_ports:
        told["address"] = None
        return
    local = mtu_of(told["interface"]) if told["interface"] else None
    sizes = [size for size in (local, dict(way["addresses"])[best]) if size]
    told["mtu_expected"] = min(sizes) if sizes else None
    if sizes:
        told["mtu"] = path_mtu(best, way["udp"], way["token"], min(min(sizes), 65000))
    told["round_trip"], told["large"] = echo(best, open_ports[-1], way["token"])


def reach(ways: list[Route]) -> list[dict[str, State]]:
    """For each way ``{address: {"closed": {port: why}, "interface"}}``, all tried at once."""
    calls = Calls()
    for number, way in enumerate(ways):
        for ip, _ in way["addresses"]:
            calls.begin(number, ip, way["ports"], way["token"].encode() + b" hello\n")
    calls.wait()
    return [calls.found.get(number, {}) for number in range(len(ways))]


class Calls:
    """Connections to many ports of many hosts, none of which is waited for alone."""

    def __init__(self) -> None:
        self.found: dict[int, dict[str, State]] = {}
        #: By number of the descriptor: socket, way, port, what is known, hello.
        self._open: dict[int, tuple[socket.socket, int, int, State, bytes]] = {}
        self._until: dict[int, float] = {}  # by way
        self._talk: dict[int, float] = {}  # by number, of those that are connected
        self._whole: set[int] = set()  # ways that have an address which answers on all ports
        self._poll = select.poll()
        self._own = {ip: name for name, ip in addresses()}

    def begin(self, way: int, ip: str, ports: list[int], hello: bytes) -> None:
        """Calls all ports of an address."""
        state: State = {"closed": dict.fromkeys(ports, "no answer"), "interface": None}
        self.found.setdefault(way, {})[ip] = state
        self._until[way] = time.monotonic() + PATIENCE
        for port in ports:
            caller = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            caller.setblocking(False)
            code = caller.connect_ex((ip, port))
            if code in (0, errno.EINPROGRESS):
                self._open[caller.fileno()] = (caller, way, port, state, hello)
                self._poll.register(caller.fileno(), select.POLLOUT)
            else:
                state["closed"][port] = os.strerror(code)
                caller.close()

    def wait(self) -> None:
        """Until all have answered, or had their time."""
        while self._open:
            soonest = min(map(self._deadline, self._open))
            for number, event in self._poll.poll(max(0.0, soonest - time.monotonic()) * 1000):
                self._hear(number, event)
            now = time.monotonic()
            for number in [n for n in self._open if self._deadline(n) <= now]:
                self._forget(number)

    def _deadline(self, number: int) -> float:
        way = self._open[number][1]
        until = self._until[way]
        return until if way in self._whole else max(until, self._talk.get(number, until))

    def _forget(self, number: int) -> None:
        self._poll.unregister(number)
        self._talk.pop(number, None)  # the next one may have this number
        self._open.pop(number)[0].close()

    def _hear(self, number: int, event: int) -> None:
        caller, way, port, state, hello = self._open[number]
        error = caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if event == select.POLLOUT and not error:
            error = _send(caller, hello)
            if not error:
                self._poll.modify(number, select.POLLIN)
                self._talk[number] = time.monotonic() + TALK
                state["closed"][port] = SILENT
                return
        why = _told(error) if error else _heard(caller, hello)
        if why is None:
            del state["closed"][port]
            state["interface"] = self._own.get(caller.getsockname()[0])
        else:
            state["closed"][port] = why
        self._forget(number)
        if not state["closed"]:  # one whole address will do: the others have a moment more
            self._whole.add(way)
            self._until[way] = min(self._until[way], time.monotonic() + REST)


def _send(caller: socket.socket, hello: bytes) -> int:
    try:
        caller.send(hello)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _heard(caller: socket.socket, hello: bytes) -> str | None:
    """None when the right one answered, else why not."""
    try:
        heard = caller.recv(256)
    except OSError as error:
        return _told(error.errno) if error.errno else str(error)
    return None if heard == hello.split()[0] else "another program answers"


def _told(number: int) -> str:
    return "refused" if number == errno.ECONNREFUSED else os.strerror(number)


def path_mtu(address: str, port: int, token: str, largest: int) -> int | None:
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


def _come_through(sender: socket.socket, token: str, sizes: set[int]) -> set[int]:
    """Those of ``sizes`` that were answered; no longer waited for than ``PACKET``."""
    good: set[int] = set()
    hello = token.encode()
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
