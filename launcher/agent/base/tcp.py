"""TCP between two hosts of a run: where to listen, and how to notice that the other host is gone."""

from __future__ import annotations

import errno

from .lean import Socket, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Seconds without an answer after which the kernel closes a connection.
SILENCE = 60


def keep_alive(line: socket.socket) -> None:
    """Have the kernel close the connection when the other host is gone: nothing else notices."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", SILENCE // 4),
        ("TCP_KEEPINTVL", SILENCE // 12),
        ("TCP_KEEPCNT", 9),
        ("TCP_USER_TIMEOUT", SILENCE * 1000),
    ):
        line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def family_of(address: str) -> int:
    """Return the family of an IP address."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def resolve(name: str, port: int) -> tuple[int, Any]:
    """Return family and socket address of a name or an address, IPv4 before IPv6.

    Raises OSError or UnicodeError.
    """
    known = name.encode("ascii") if name.isascii() else name  # text imports idna
    try:
        return socket.AF_INET, _first(known, port, socket.AF_INET)
    except OSError:
        try:
            return socket.AF_INET6, _first(known, port, socket.AF_INET6)
        except OSError:
            pass
        raise


def _first(name: str | bytes, port: int, family: int) -> Any:
    return socket.getaddrinfo(name, port, family, socket.SOCK_STREAM)[0][4]


def bound(kind: int, port: int, address: str = "") -> Socket:
    """Return a socket of a ``kind``, such as SOCK_STREAM, bound to an address of this host.

    By default it is bound to all addresses of both families. Raises OSError.
    """
    if address:
        return _bound(family_of(address), kind, address, port)
    try:
        return _bound(socket.AF_INET6, kind, "::", port)
    except OSError as error:
        if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
            raise
        return _bound(socket.AF_INET, kind, "0.0.0.0", port)  # a kernel without IPv6


def _bound(family: int, kind: int, address: str, port: int) -> Socket:
    made = Socket(family, kind)
    try:
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((address, port))
    except (OSError, OverflowError):
        made.close()
        raise
    return made


def listen(port: int, address: str = "", backlog: int = 256) -> Socket:
    """Return a socket that listens at an address of this host, or at all. Raises OSError."""
    listener = bound(socket.SOCK_STREAM, port, address)
    try:
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


def own_address(address: str) -> str:
    """Return where to listen: at ``address``, by which others reached us, if this host has it.

    Else at all addresses (``""``): a name may resolve differently here, and a translated address is
    not ours.
    """
    try:
        socket.inet_pton(family_of(address), address)
        bound(socket.SOCK_STREAM, 0, address).close()
    except OSError:
        return ""
    return address
