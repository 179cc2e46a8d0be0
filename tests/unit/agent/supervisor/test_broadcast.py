"""What hosts of a run tell each other, over sockets of this machine: who hears it, and who is not heard."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from launcher.agent.base.tcp import bound
from launcher.agent.supervisor.broadcast import LONGEST_WORD, Broadcast
from support import lab as labs

HOSTS = ("lab1", "lab2", "lab3")


class Site:
    """The parts of some hosts in one run, each with all that it has heard."""

    def __init__(self, address: str = "127.0.0.1") -> None:
        self.address = address
        with bound(socket.SOCK_STREAM, 0) as probe:
            self.port = probe.getsockname()[1]
        self.parts: dict[str, Broadcast] = {}
        self.heard: dict[str, list[dict[str, Any]]] = {}

    def join(self, host: str, key: str = "k" * 32) -> Broadcast:
        """One more host, which knows that key."""
        spec = {"hub": "lab1", "address": self.address, "port": self.port, "key": key, "hosts": 3}
        self.heard[host] = []
        self.parts[host] = Broadcast(self.heard[host].append, host, spec)
        return self.parts[host]

    def leave(self, host: str) -> None:
        self.parts.pop(host).close()

    def until(self, condition: Callable[[], bool]) -> None:
        """Lets all of them talk until something holds."""
        deadline = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < deadline, self.heard
            self.turn()

    def turn(self) -> None:
        for part in self.parts.values():
            part.keep_time(time.monotonic())
        readable = [one for part in self.parts.values() for one in part.readable]
        writable = [one for part in self.parts.values() for one in part.writable]
        found = select.select(readable, writable, [], 0.05)
        for ready in found[0] + found[1]:
            for part in self.parts.values():
                part.look(ready)

    def has_heard(self, who: str, **word: Any) -> bool:
        return word in self.heard[who]


@pytest.fixture
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    made = Site(getattr(request, "param", "127.0.0.1"))
    yield made
    for host in list(made.parts):
        made.leave(host)


@contextmanager
def caller(site: Site) -> Iterator[socket.socket]:
    """Somebody who dials the hub."""
    with closing(socket.create_connection(("127.0.0.1", site.port))) as line:
        line.setblocking(False)
        yield line


def hung_up(line: socket.socket) -> bool:
    try:
        return line.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


@pytest.mark.parametrize("site", ["127.0.0.1", "::1"], indirect=True)
def test_every_host_hears_every_other_one_once(site: Site) -> None:
    for host in HOSTS:
        site.join(host)
    site.parts["lab2"].tell(over="process-failed", grace=5.0)
    site.parts["lab1"].tell(primary="chief-0")
    site.until(lambda: sum(map(len, site.heard.values())) == 4)
    assert site.has_heard("lab1", over="process-failed", grace=5.0, host="lab2")
    assert site.has_heard("lab3", over="process-failed", grace=5.0, host="lab2")
    assert site.has_heard("lab2", primary="chief-0", host="lab1")
    assert site.has_heard("lab3", primary="chief-0", host="lab1")


def test_who_comes_late_or_comes_back_hears_what_was_said(site: Site) -> None:
    """A host may start last; a line may break on either side while something is told."""
    site.join("lab2").tell(primary="chief-0")  # nobody is there yet
    site.join("lab1")
    site.until(lambda: site.has_heard("lab1", primary="chief-0", host="lab2"))
    site.join("lab3")
    site.until(lambda: site.has_heard("lab3", primary="chief-0", host="lab2"))
    for line in site.parts["lab2"].readable:
        line.shutdown(socket.SHUT_RDWR)
    site.parts["lab1"].tell(over="process-failed")
    site.until(lambda: site.has_heard("lab2", over="process-failed", host="lab1"))
    site.parts["lab2"].tell(over="so be it")
    site.until(lambda: site.has_heard("lab1", over="so be it", host="lab2"))
    assert len(site.heard["lab1"]) == 2, "what is said again is not news"


@pytest.mark.parametrize(
    "words",
    [b"GET / HTTP/1.1\r\n", b'00 {"over":"x"}\n', b"\n", b"x" * (LONGEST_WORD + 2), b"\xff \xff\n"],
)
def test_strangers_are_not_heard(site: Site, words: bytes) -> None:
    site.join("lab1").tell(over="something")
    with caller(site) as line:
        line.sendall(words)
        site.until(lambda: hung_up(line))
    assert site.heard["lab1"] == []


def test_hosts_of_another_attempt_are_not_heard(site: Site) -> None:
    """They have another key."""
    site.join("lab1")
    site.join("lab2", key="z" * 32).tell(over="process-failed")
    site.join("lab3").tell(primary="chief-0")
    site.until(lambda: site.has_heard("lab1", primary="chief-0", host="lab3"))
    assert site.heard["lab1"] == [{"primary": "chief-0", "host": "lab3"}]
    assert site.heard["lab2"] == []


def test_who_says_nothing_is_hung_up_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launcher.agent.supervisor.broadcast.PATIENCE", 0.1)
    site.join("lab1")
    with caller(site) as line:
        site.until(lambda: hung_up(line))


def test_a_hub_stays_for_the_others(site: Site) -> None:
    """As long as one of them is there."""
    hub = site.join("lab1")
    site.join("lab2")
    site.join("lab3").tell(primary="chief-0")
    site.until(lambda: site.has_heard("lab2", primary="chief-0", host="lab3"))
    assert hub.is_needed
    assert not site.parts["lab2"].is_needed
    site.leave("lab3")
    site.leave("lab2")
    hub.pass_on()
    assert not hub.is_needed


def test_the_port_of_a_hub_may_be_taken(site: Site) -> None:
    with socket.create_server(("127.0.0.1", site.port)), pytest.raises(OSError, match="in use"):
        site.join("lab1")


def test_a_run_of_one_host_has_nobody_to_tell() -> None:
    alone = Broadcast(labs.LabError)
    alone.tell(over="process-failed")
    assert (alone.readable, alone.writable, alone.is_needed) == ([], [], False)
