"""Where hosts meet: who is reached at which address, over sockets of this machine."""

from __future__ import annotations

import threading

import pytest

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


def test_two_listeners_have_ports_of_their_own() -> None:
    """Also where the range has as many ports as are needed, and no more."""
    one = Listener((20000, 32000), "a")
    try:
        with pytest.raises(OSError, match="no port is free"):
            Listener((one.port, one.port), "b")
    finally:
        one.close()
