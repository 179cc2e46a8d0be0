"""The lines of hosts that wait together."""

from __future__ import annotations

import socket
from itertools import pairwise

from launcher.agent.supervisor import gang_lines
from launcher.agent.supervisor.gang_lines import Lines


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
