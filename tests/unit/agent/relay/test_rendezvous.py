"""Where hosts meet: who is reached at which address, over sockets of this machine."""

from __future__ import annotations

import errno
import threading

import pytest

from launcher.agent.relay import rendezvous
from launcher.agent.relay.rendezvous import Listener, connect


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_a_listener_is_reached_by_ipv4_and_ipv6(address: str) -> None:
    listener = Listener((20000, 32000), "token")
    answering = threading.Thread(target=listener.answer)
    answering.start()
    try:
        told = connect([address, "no.such.name"], listener.port, "token", 10.0)
        assert told["no.such.name"]["error"] == "unresolved"
        found = told[address]
        expected = "::1" if address == "::1" else "127.0.0.1"
        assert (found["ok"], found["ip"], found["local"]) == (True, expected, expected)
    finally:
        answering.join()
        listener.close()


@pytest.mark.parametrize("code", [errno.EHOSTUNREACH, errno.ENETUNREACH])
def test_there_may_be_no_way_for_a_moment(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a cable is back, and the kernel still takes the neighbour for lost."""
    tries = []

    class Lost(rendezvous.Socket):  # type: ignore[name-defined, misc]
        def connect_ex(self, place: object) -> int:
            tries.append(place)
            return code if len(tries) < 3 else int(super().connect_ex(place))

    monkeypatch.setattr(rendezvous, "Socket", Lost)
    listener = Listener((20000, 32000), "token")
    answering = threading.Thread(target=listener.answer)
    answering.start()
    try:
        assert connect(["127.0.0.1"], listener.port, "token", 10.0)["127.0.0.1"]["ok"]
        assert len(tries) == 3
    finally:
        answering.join()
        listener.close()


def test_where_there_is_no_way_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lost(rendezvous.Socket):  # type: ignore[name-defined, misc]
        def connect_ex(self, place: object) -> int:
            return errno.EHOSTUNREACH

    monkeypatch.setattr(rendezvous, "Socket", Lost)
    found = connect(["127.0.0.1"], 1, "token", 0.5)["127.0.0.1"]
    assert (found["error"], found["why"]) == ("unreachable", "No route to host")


def test_two_listeners_have_ports_of_their_own() -> None:
    """Also where the range has as many ports as are needed, and no more."""
    one = Listener((20000, 32000), "a")
    try:
        with pytest.raises(OSError, match="no port is free"):
            Listener((one.port, one.port), "b")
    finally:
        one.close()
