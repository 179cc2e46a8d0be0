"""The lines of hosts that wait together."""

from __future__ import annotations

import socket
from itertools import pairwise

import pytest

from launcher.agent.supervisor.gang import lines as gang_lines
from launcher.agent.supervisor.gang.lines import Lines


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
