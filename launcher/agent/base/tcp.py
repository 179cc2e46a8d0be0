"""What every line between two hosts of a run wants of TCP: to notice that the other machine is gone,
and where to listen.
"""

from __future__ import annotations

from .lean import Socket, socket

#: Seconds of silence of the other machine after which the kernel calls a line dead.
SILENCE = 60


def keep_alive(line: socket.socket) -> None:
    """The kernel ends a line whose other machine is gone: nobody else would notice."""
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        ("TCP_KEEPIDLE", SILENCE // 4),
        ("TCP_KEEPINTVL", SILENCE // 12),
        ("TCP_KEEPCNT", 9),
        ("TCP_USER_TIMEOUT", SILENCE * 1000),
    ):
        line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def own_address(address: str) -> str:
    """Where to listen: at the address by which we were reached, where it is one of ours. A name may
    mean something else here, and a translated address is not ours."""
    try:
        socket.inet_aton(address)
        with Socket() as probe:
            probe.bind((address, 0))
    except OSError:
        return "0.0.0.0"
    return address
