"""Whether anybody came to the port where ranks meet: a word only where it is sure."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from launcher.agent.supervisor import meeting as meetings
from launcher.agent.supervisor.meeting import Meeting


def looked(meeting: Meeting, times: int) -> Meeting:
    for _ in range(times):
        meeting.look(meeting.next_look)
    return meeting


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def test_nobody_came() -> None:
    meeting = Meeting()
    meeting.begin(free_port())
    assert not looked(meeting, meetings.ENOUGH - 1).nobody_came, "too early to be sure"
    assert looked(meeting, 1).nobody_came


def test_somebody_listened_for_a_while() -> None:
    meeting = Meeting()
    with socket.create_server(("127.0.0.1", 0)) as one:
        meeting.begin(one.getsockname()[1])
        looked(meeting, 1)
    assert meeting.next_look == float("inf"), "one look is enough"
    assert not looked(meeting, 20).nobody_came


def test_a_connection_that_is_closed_counts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            one.accept()[0].close()
    meeting = Meeting()
    meeting.begin(port)
    assert not looked(meeting, 20).nobody_came


def test_no_word_without_a_port_or_a_sight_of_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    meeting = Meeting()
    meeting.begin(None)
    assert not looked(meeting, 20).nobody_came
    monkeypatch.setattr(meetings, "TABLES", (str(tmp_path),))
    meeting.begin(free_port())
    assert not looked(meeting, 20).nobody_came
