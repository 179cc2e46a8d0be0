"""Tests where hosts can meet: the head node listens, and the other hosts try to connect."""

from __future__ import annotations

import errno
import os
import select
import time

from ..base.lean import Socket, socket
from ..base.tcp import listen, resolve
from ..host import free_ports
from ..host.probe import interface_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.messages import Reached


#: Seconds between two tries.
PAUSE = 0.2


class Listener:
    """Listens on a free port and sends every caller a token, until it is closed."""

    def __init__(
        self, ports: tuple[int, int], token: str, more: int = 0, news: bool = False
    ) -> None:
        """Listen on one of ``ports``, ``(first, last)``, and reserve ``more`` of them, unanswered.

        With ``news`` reserve one more, outside of that range if it has too few. Raises OSError when
        there are too few free ports.
        """
        self.token = token.encode()
        self.held = free_ports.hold(ports, more + 1, more + 1 + news)
        if news and len(self.held) == more + 1:
            self.held.append(listen(0))
        self.socket = self.held[0]
        self.port, *self.more = [listener.getsockname()[1] for listener in self.held]
        self.news = self.more.pop() if news else None

    def answer(self) -> None:
        """Answer one caller. The caller closes first, so that no TIME_WAIT blocks our port."""
        caller = self.socket.accept()[0]
        with caller:
            caller.settimeout(2.0)
            try:
                caller.sendall(self.token)
                caller.recv(1)
            except OSError:
                pass

    def close(self) -> None:
        for listener in self.held:
            listener.close()


def connect(addresses: list[str], port: int, token: str, seconds: float) -> dict[str, Reached]:
    """Try all ``addresses`` of the head node at once, for at most ``seconds``.

    Where none can be reached, try those again to which there is no way: once a cable or a switch is
    back, the kernel takes a moment to find its neighbours.

    Return ``{address: {"ok", "ip", "local", "interface", "error", "why"}}``; ``error`` is one of
    "unresolved", "refused", "timeout", "unreachable", "stranger" (another program answered).
    """
    deadline = time.monotonic() + seconds
    results = _tried(addresses, port, token, seconds)
    while not any(result["ok"] for result in results.values()):
        again = [one for one, result in results.items() if result.get("error") == "unreachable"]
        left = deadline - time.monotonic()
        if not again or left <= PAUSE:
            break
        time.sleep(PAUSE)
        results.update(_tried(again, port, token, left - PAUSE))
    return results


def _tried(addresses: list[str], port: int, token: str, seconds: float) -> dict[str, Reached]:
    """Return what becomes of one connection to each address."""
    results: dict[str, Reached] = {}
    waiting: dict[Socket, tuple[str, str]] = {}
    for address in addresses:
        try:
            family, place = resolve(address, port)
        except (OSError, UnicodeError) as error:
            results[address] = {"ok": False, "error": "unresolved", "why": str(error)}
            continue
        ip = str(place[0]).partition("%")[0]
        caller = Socket(family, socket.SOCK_STREAM)
        caller.setblocking(False)
        code = caller.connect_ex(place)
        if code in (0, errno.EINPROGRESS):
            waiting[caller] = (address, ip)
        else:
            results[address] = _failed(ip, code)
            caller.close()
    deadline = time.monotonic() + seconds
    connected: set[Socket] = set()
    while waiting and time.monotonic() < deadline:
        left = deadline - time.monotonic()
        outgoing = [caller for caller in waiting if caller not in connected]
        readable, writable, _ = select.select(list(connected), outgoing, [], max(0.0, left))
        for caller in writable:
            code = caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                address, ip = waiting.pop(caller)
                results[address] = _failed(ip, code)
                caller.close()
            else:
                connected.add(caller)
        for caller in readable:
            address, ip = waiting.pop(caller)
            connected.discard(caller)
            results[address] = _heard(caller, ip, token.encode())
            caller.close()
    for caller, (address, ip) in waiting.items():
        results[address] = {"ok": False, "ip": ip, "error": "timeout", "why": "no answer"}
        caller.close()
    return results


def _failed(ip: str, code: int) -> Reached:
    kind = {errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout"}.get(code, "unreachable")
    return {"ok": False, "ip": ip, "error": kind, "why": os.strerror(code)}


def _heard(caller: Socket, ip: str, token: bytes) -> Reached:
    try:
        heard = caller.recv(256)
    except OSError as error:
        return {"ok": False, "ip": ip, "error": "refused", "why": str(error)}
    if heard != token:
        return {"ok": False, "ip": ip, "error": "stranger", "why": "another program answered"}
    local = str(caller.getsockname()[0]).partition("%")[0]
    return {"ok": True, "ip": ip, "local": local, "interface": interface_of(local)}
