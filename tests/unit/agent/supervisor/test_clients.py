"""A supervisor never waits for those who talk to it."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.agent.base import protocol
from launcher.agent.supervisor import clients as module
from launcher.agent.supervisor.clients import Clients


@pytest.fixture
def clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clients]:
    monkeypatch.chdir(tmp_path)
    clients = Clients()
    yield clients
    clients.close()


@pytest.fixture
def peer(clients: Clients) -> Iterator[socket.socket]:
    """A client that has connected, and has asked for something."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(20)
        peer.connect("sock")
        peer.sendall(protocol.encode({"op": "subscribe"}))
        clients.hear(clients.sockets[0])
        yield peer


def the_one(clients: Clients) -> module.Socket:
    return clients.sockets[1]


def test_a_subscriber_that_does_not_read_is_not_waited_for(
    clients: Clients, peer: socket.socket
) -> None:
    """A relay that asks for 300 processes reads nothing until they are started."""
    clients.subscribe(the_one(clients))
    for _ in range(5000):
        clients.wake()
    assert peer.recv(1 << 16), "it wakes all the same"
    assert not clients.writable


def test_a_long_answer_comes_whole_as_it_is_read(clients: Clients, peer: socket.socket) -> None:
    client = the_one(clients)
    clients.subscribe(client)
    answer = {"ok": {"stacks": "x" * (3 << 20)}}
    clients.send(client, answer)
    clients.send(client, {"ok": {}})
    clients.wake()
    decoder, heard = protocol.Decoder(), []
    while len(heard) < 2:
        for ready in select.select([], clients.writable, [], 0)[1]:
            clients.flush(ready)
        heard += [message for message, _ in decoder.feed(peer.recv(1 << 16))]
    assert heard == [answer, {"ok": {}}]
    assert not clients.writable


def test_one_that_never_reads_is_disconnected(
    clients: Clients, peer: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_UNREAD", 1 << 20)
    client = the_one(clients)
    for _ in range(40):
        clients.send(client, {"ok": {"stacks": "x" * (1 << 16)}})
    assert clients.alone_since is not None
    assert clients.sockets[1:] == clients.writable == []


def test_a_caller_beyond_what_select_takes_is_turned_away(
    clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_DESCRIPTORS", 0)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
        peer.settimeout(20)
        peer.connect("sock")
        clients.hear(clients.sockets[0])
        assert peer.recv(1) == b""
    assert len(clients.sockets) == 1
