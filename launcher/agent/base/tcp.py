"""TCP between two hosts of a run: where to listen, and how to notice that the other host is gone."""

from __future__ import annotations

from .lean import Socket, socket

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


def own_address(address: str) -> str:
    """Return where to listen: at ``address``, by which others reached us, if this host has it.

    Else at all addresses: a name may resolve differently here, and a translated address is not ours.
    """
    try:
        socket.inet_aton(address)
        with Socket() as probe:
            probe.bind((address, 0))
    except OSError:
        return "0.0.0.0"
    return address
