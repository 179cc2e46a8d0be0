"""The largest packet that arrives, as far as answers tell."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from launcher.agent.host import reachability

#: Bytes of IP and UDP headers.
HEADERS = 28


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Iterator[int]:
    """The port of a host that answers packets up to a size, so many seconds after each has come."""
    most, late = request.param
    timers: list[threading.Timer] = []

    def answer() -> None:
        while True:
            data, caller = server.recvfrom(1 << 16)
            if data == b"end":
                return
            size = len(data)
            if size + HEADERS <= most:
                said = data.split(b".")[0] + b" %d" % size
                timers.append(threading.Timer(late, server.sendto, (said, caller)))
                timers[-1].start()

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()[1]
        server.sendto(b"end", server.getsockname())
        thread.join()
        for timer in timers:
            timer.join()


@pytest.mark.parametrize(
    ("host", "found"),
    [
        ((1500, 0.0), 1500),
        ((1200, 0.0), 1200),
        ((1500, 0.4), 1500),
        pytest.param((1200, 0.4), 1200, marks=pytest.mark.thorough),
        ((100, 0.0), None),
    ],
    ids=["large", "small", "busy", "busy and small", "silent"],
    indirect=["host"],
)
def test_the_largest_packet_that_arrives(
    host: int, found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that answers late is busy: its network passes what it passes."""
    if found:  # where all is answered, nobody waits for so long
        monkeypatch.setattr(reachability, "LATE", 60.0 if found == 1500 else 2.0)
    assert reachability.path_mtu("127.0.0.1", host, "token", 1500) == found
