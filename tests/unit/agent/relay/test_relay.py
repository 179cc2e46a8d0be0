"""Requests to a relay, without a connection."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import pytest

from launcher.agent.base import journal, protocol
from launcher.agent.relay import relay as relays
from launcher.agent.relay import supervisor_line, tree
from launcher.agent.relay.relay import Relay


def test_what_was_started_and_is_over_is_not_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher whose line broke before it had the answer asks again; other attempts do not count."""
    run = tmp_path / "runs" / "calm-hare"
    run.mkdir(parents=True)
    monkeypatch.chdir(run)
    relay, told = Relay(str(tmp_path)), journal.Journal("journal.jsonl")
    request = {"run": "calm-hare", "stage": "run", "attempt": 1, "processes": [{"key": "rank-0"}]}
    told.append("ProcessStarted", key="rank-0", attempt=0)
    with pytest.raises(OSError, match="No such file"):
        relay.do_start(request)
    told.append("ProcessStarted", key="rank-0", attempt=1)
    assert relay.do_start(request) == {}


def test_a_supervisor_that_starts_hundreds_of_processes_has_more_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launcher hears meanwhile that work goes on; one that does not answer is told of."""
    run = tmp_path / "runs" / "calm-hare"
    run.mkdir(parents=True)
    monkeypatch.chdir(run)
    monkeypatch.setattr(relays, "WORKING", 0.05)
    monkeypatch.setattr(relays, "PER_PROCESS", 3.0)
    monkeypatch.setattr(supervisor_line, "PATIENCE", 0.1)
    monkeypatch.setattr(supervisor_line, "PAUSE", 0.05)
    relay, said = Relay(str(tmp_path)), []
    monkeypatch.setattr(relay, "_say", lambda message, payload=b"": said.append(message))
    request = {"run": "calm-hare", "op": "start", "processes": [{}] * 20}

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            while {"working": 1} not in said:
                time.sleep(0.01)
            connection.sendall(protocol.encode({"ok": {"began": True}}))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("sock")
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        assert relay.do_start(request) == {"began": True}
        thread.join()
        with pytest.raises(relays.Refused, match="does not answer"):
            relay.do_start({**request, "processes": []})


def test_more_outputs_than_fit_into_a_message_come_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outputs, code = tmp_path / "runs" / "calm-hare" / "outputs", tmp_path / "runs/calm-hare/code"
    for folder in (outputs, code):
        folder.mkdir(parents=True)
        for number in range(50):
            (folder / f"{folder.name}-{number:02}").touch()
    monkeypatch.setattr(tree, "PART", 1000)
    relay, sent = Relay(str(tmp_path)), []
    monkeypatch.setattr(relay, "_say", lambda message, payload=b"": sent.append(message))
    last = relay.do_outputs({"id": 7, "run": "calm-hare", "paths": ["."]})
    assert len(sent) > 5
    assert all(message["id"] == 7 for message in sent)
    for kind in ("outputs", "code"):
        parts = [message["part"] for message in sent] + [last]
        found = [path for part in parts for path, _, _ in part[kind]]
        assert found == [f"{kind}-{number:02}" for number in range(50)]
    assert max(len(protocol.encode(message)) for message in sent) < 2000
    assert last["unlisted"] == 0


def test_more_outputs_than_a_launcher_takes_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [(f"weights-{number}", 1, 1) for number in range(10)]
    monkeypatch.setattr(protocol, "MOST_FILES", 7)
    parts, unlisted = tree.in_parts({"outputs": listed, "code": []})
    assert (parts, unlisted) == ([{"outputs": listed[:7], "code": []}], 3)
    monkeypatch.setattr(protocol, "MOST_CHARACTERS", 9 * 5)
    assert tree.in_parts({"outputs": [], "code": listed})[1] == 5
    assert tree.in_parts({"outputs": [], "code": []}) == ([{"outputs": [], "code": []}], 0)
