"""The lines of hosts that wait together."""

from __future__ import annotations

import select
import socket
from itertools import pairwise
from typing import Any

import pytest

from launcher.agent.supervisor.gang import lines as gang_lines
from launcher.agent.supervisor.gang.lines import JOINED, Lines
from launcher.agent.supervisor.gang.seat_lines import SeatLines


def test_who_has_lost_its_leader_for_long_tries_less_often() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    spec = {"hosts": ["a", "b"], "address": "127.0.0.1", "port": port, "key": "key"}
    lines, now, tries = Lines(spec, "b", 0.0), 0.0, list[float]()  # type: ignore[arg-type]
    while now < 3 * gang_lines.LONG:
        lines.keep_time(now)
        lines.look(lines.writable, now)
        if lines.next_look(now) > now:
            tries.append(now)
            now = lines.next_look(now)
    lines.close()
    pauses = [after - before for before, after in pairwise(tries)]
    assert (
        max(pauses[: int(gang_lines.LONG / gang_lines.LONGEST_PAUSE)]) == gang_lines.LONGEST_PAUSE
    )
    assert pauses[-1] == gang_lines.PATIENT_PAUSE


def test_the_port_at_which_hosts_meet_is_handed_over() -> None:
    """Between two attempts nobody else gets it, and who calls then is heard by the next one."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    spec = {"hosts": ["a", "b"], "address": "127.0.0.1", "port": port, "key": "key"}
    before = Lines(spec, "a", 0.0)  # type: ignore[arg-type]
    listener = before.hand_over()
    before.close()
    with pytest.raises(OSError, match="in use"):
        socket.create_server(("127.0.0.1", port)).close()
    with socket.create_connection(("127.0.0.1", port)) as caller:
        after = Lines(spec, "a", 1.0, listener)  # type: ignore[arg-type]
        assert after.readable == [listener]
        after.look([listener], 1.0)
        assert len(caller.recv(100)) == gang_lines.NONCE + 1, "it is asked who it is"
        after.close()


def test_who_leaves_a_host_that_leads_nothing_calls_another_one_next() -> None:
    """The one that it left may never lead, as others do not reach it."""
    ports, held = {}, []
    for name in "abc":
        held.append(socket.create_server(("127.0.0.1", 0)))
        ports[name] = held[-1].getsockname()[1]
    for one in held:
        one.close()
    spec: Any = {
        "hosts": ["a", "b", "c"], "voters": ["a", "b", "c"], "address": "127.0.0.1", "key": "key",
        "port": ports["a"], "seats": ports, "places": {name: ["127.0.0.1"] for name in "abc"},
    }  # fmt: skip

    def lines_of(name: str, calls: bool) -> SeatLines:
        own = (ports[name], ports[name])
        return SeatLines(spec, name, 0.0, own, lambda host: True, lambda: calls)

    hosts = {name: lines_of(name, name == "c") for name in "abc"}
    now, reached = 0.0, list[str]()
    while len(reached) < 3:
        now += 0.05
        assert now < 20, reached
        for one in hosts.values():
            ready = select.select(one.readable, one.writable, [], 0)
            news = [*one.look([*ready[0], *ready[1]], now), *one.keep_time(now)]
            for kind, host, _ in news if one is hosts["c"] else ():
                if kind == JOINED:
                    reached.append(host)
                    one.hang_up(host, False, now)
    for one in hosts.values():
        one.close()
    assert reached == ["a", "b", "a"]


def test_strangers_that_say_nothing_keep_no_host_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    spec: Any = {"hosts": ["a", "b"], "address": "127.0.0.1", "port": port, "key": "key"}
    leader, other, now = Lines(spec, "a", 0.0), Lines(spec, "b", 0.0), 0.0
    strangers, joined = list[socket.socket](), False
    while not joined:
        now += 0.05
        assert now < gang_lines.PATIENCE / 2, "before they are dropped because they say nothing"
        while len(strangers) < 40:
            strangers.append(socket.create_connection(("127.0.0.1", port)))
            leader.look([*leader.readable], now)
        for one in (other, leader):
            ready = select.select(one.readable, one.writable, [], 0)
            news = [*one.look([*ready[0], *ready[1]], now), *one.keep_time(now)]
            joined = joined or (JOINED, "b", {}) in news
    assert len(leader.readable) <= 1 + 2 + gang_lines.STRANGERS, "and they are not many"
    for line in (leader, other, *strangers):
        line.close()
