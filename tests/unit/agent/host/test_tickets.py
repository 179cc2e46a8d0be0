"""Tickets of waiting runs: read by everybody, gone with their holder, and nonsense is none."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.agent.host import socket_names, tickets

TICKET: dict[str, Any] = {"number": 7, "hosts": 4, "shares": [4, 4, 2], "priority": 1}


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of sockets that no other test has."""
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))


def _seen() -> list[Any]:
    return tickets.read(tickets.names())


@pytest.mark.usefixtures("scope")
def test_a_ticket_is_read_as_it_was_entered_and_gone_when_it_is_closed() -> None:
    began = time.monotonic()
    held = tickets.enter("calm-otter-1234", {**TICKET, "seconds": 90.5, "waited": 60.0})
    (seen,) = _seen()
    assert 59 <= seen.pop("waited") <= 62 + time.monotonic() - began
    assert seen.pop("user")
    assert seen == {
        "run": "calm-otter-1234", "priority": 1, "number": 7, "seconds": 90.0, "hosts": 4,
        "shares": [[2, 4], [1, 2]], "aside": False, "by_itself": False,
        "only": [], "within": False, "part": 0, "no_room": False,
        "leads": False, "no_leader": False, "unsure": False,
    }  # fmt: skip
    again = tickets.enter("calm-otter-1234", {**TICKET, "seconds": 90.5, "waited": 60.0})
    with tickets.enter("next", {**TICKET, "by_itself": True, "within": True, "no_room": True}):
        (seen,) = [one for one in _seen() if one["run"] == "next"]
        assert (seen["by_itself"], seen["within"], seen["no_room"]) == (True, True, True)
    for name in tickets.FLAGS:
        with tickets.enter("flagged", {**TICKET, name: True}):
            (seen,) = [one for one in _seen() if one["run"] == "flagged"]
            assert [one for one in tickets.FLAGS if seen[one]] == [name]
    assert len(_seen()) == 2, "a relay that nobody reaches any more does not keep its run out"
    held.close()
    again.close()
    assert _seen() == []


@pytest.mark.usefixtures("scope")
def test_a_ticket_names_the_very_gpus_that_it_wants() -> None:
    """Where no others would do; a version that does not know that takes it for nonsense."""
    with tickets.enter("picky", {**TICKET, "only": [3, 0, 43]}):
        (seen,) = _seen()
        assert (seen["only"], seen["shares"]) == ([0, 3, 43], [[1, 3]])
    with pytest.raises(OSError, match="no ticket can name"):
        tickets.enter("picky", {**TICKET, "only": [44]})


@pytest.mark.usefixtures("scope")
def test_the_longest_of_everything_fits() -> None:
    """The name of a socket has 107 characters; a list of shares that is too long becomes larger."""
    shares = list(range(1, 200))
    run = "r" * 80
    with tickets.enter(
        run,
        {"number": -(2**31), "hosts": 999, "shares": shares, "seconds": 10**7, "aside": True},
    ):
        (seen,) = _seen()
    assert (seen["number"], seen["seconds"], seen["aside"]) == (-(2**31), 10**7, True)
    assert seen["shares"] == [[199, 199]]
    assert seen["run"] == socket_names.short(run) != socket_names.short("r" * 79)


NONSENSE = (
    "x", "calm-otter", "calm-otter/n.1.1.0.4", "calm-otter/x.1.1.0.4.1x1", "../a/n.1.1.0.4.1x1",
    "calm-otter/n.!.1.0.4.1x1", "calm-otter/n.1.1.0.4.9999999x1", "calm-otter/n.1.1.0.4.1x0",
    "calm-otter/n.1.1.0.0.1x1", "calm-otter/n.1.1.0.1.2x1", "calm-otter/n.1.1.0.zzz.9999x1",
    "calm-otter/n.1.1.0.4.0x1",
    "calm-otter/n.zzzzzzzz.1.0.4.1x1", "calm-otter/n.1.1.0.4.x", "calm-otter/n.-.1.0.4.1x1",
)  # fmt: skip


@pytest.mark.usefixtures("scope")
def test_nonsense_of_other_users_is_no_ticket() -> None:
    held = []
    for text in NONSENSE:
        one = socket.socket(socket.AF_UNIX)
        one.bind(socket_names.prefix() + b"wait/" + text.encode())
        held.append(one)
    with tickets.enter("calm-otter", TICKET):
        assert [one["run"] for one in _seen()] == ["calm-otter"]
    for one in held:
        one.close()


@given(st.text(st.sampled_from("ln.0123z-x+a"), max_size=40))
def test_no_name_is_more_than_its_reader_takes(text: str) -> None:
    seen = tickets._read("wait/calm-otter/" + text)
    assert seen is None or (0 < sum(n for n, _ in seen["shares"]) <= seen["hosts"])


def test_what_a_later_version_adds_does_no_harm() -> None:
    seen = tickets._read("wait/calm-otter/n.1.1.0.4.1x1.a.new.x7")
    assert seen and seen["aside"]


@pytest.mark.usefixtures("scope")
def test_a_ticket_names_the_part_of_its_host() -> None:
    with tickets.enter("calm-otter", {**TICKET, "part": 3}):
        assert [one["part"] for one in _seen()] == [3]
    assert tickets._read("wait/calm-otter/n.1.1.0.4.1x1.p" + tickets.written(1 << 13)) is None
    assert tickets._read("wait/calm-otter/n.1.1.0.4.1x1.p") is None


@pytest.mark.usefixtures("scope")
def test_one_user_cannot_crowd_out_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tickets, "MOST_OF_A_USER", 2)
    held = [tickets.enter(f"run-{number}", TICKET) for number in range(4)]
    assert [one["run"] for one in _seen()] == ["run-0", "run-1"]
    assert [one["run"] for one in tickets.read(tickets.names(), "run-3")] == ["run-3", "run-0"]
    for one in held:
        one.close()


@pytest.mark.usefixtures("scope")
def test_the_kernel_tells_when_a_ticket_or_a_lock_ends() -> None:
    held = tickets.enter("calm-otter", TICKET)
    (name,) = tickets.names()
    assert tickets.to_watch([name], "calm-otter") == [], "not its own"
    assert tickets.to_watch([name, "gpu/0", "gpu/0/run/7"], "other") == ["gpu/0", name]
    watch = socket_names.connected(name)
    assert watch is not None
    with pytest.raises(BlockingIOError):
        watch.recv(1)
    held.close()
    with pytest.raises(ConnectionResetError):
        watch.recv(1)
    watch.close()
    assert socket_names.connected(name) is None


def _name(run: str, number: int, more: str = "") -> str:
    return f"wait/{run}/n.{tickets.written(number)}.1.0.1.1x1{more}"


def test_a_run_watches_locks_and_who_comes_before_it() -> None:
    before, after, aside = _name("a", 1), _name("z", 9), _name("b", 2, ".a")
    there = [before, _name("mine", 5), after, aside, "gpu/0", "until/0/x"]
    assert tickets.to_watch(there, "mine") == ["gpu/0", before]
    assert tickets.to_watch(there, "new") == [*("gpu/0", before, _name("mine", 5), after)], (
        "any may come before it"
    )
    of_project = _name("q", 99, ".q")
    assert of_project in tickets.to_watch([*there, of_project], "mine"), "its quota goes first"


def test_a_run_far_back_is_not_woken_by_each_end() -> None:
    before = [_name(f"run-{number:02d}", number) for number in range(tickets.NEAR + 1)]
    there = [*before, _name("mine", 99), "gpu/0"]
    assert tickets.to_watch(there, "mine") == []
    assert tickets.to_watch(there[1:], "mine") == ["gpu/0", *before[1:]], "its turn is near"
    many = [f"gpu/{number}" for number in range(tickets.NEAR + 1)]
    assert len(tickets.to_watch([*there, *many[1:]], "mine")) == len(many) + len(before)
