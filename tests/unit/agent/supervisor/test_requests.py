"""No message ends a relay or a supervisor: what cannot be done is answered, and the run goes on."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import launcher.agent
from launcher.agent.base import protocol, run_lock
from launcher.agent.base.journal import read_from
from launcher.agent.relay.relay import Relay
from launcher.agent.supervisor import requests
from launcher.spec import errors
from launcher.spec.model import Host
from launcher.transport import agent_client
from support import lab as labs

ROOT = Path(launcher.agent.__file__).parent.parent.parent

PROCESS = {"key": "rank-0", "rank": 0, "argv": ["sleep", "600"], "env": {}, "cwd": "/"}
START = {"op": "start", "stage": "run", "attempt": 0, "path": [], "processes": [PROCESS]}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


class Supervised:
    """A supervisor on this machine, and one connection to it."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        spec = {"run_id": "calm-hare", "host": "here", "grace": 0.5, "lease": None, "stall": 600.0}
        launch = f"from launcher.agent.supervisor import daemon; daemon.launch({str(run_dir)!r}, {spec!r})"
        subprocess.run([sys.executable, "-c", launch], check=True, cwd=ROOT)
        self._socket: socket.socket | None = None

    def say(self, line: bytes) -> dict[str, Any]:
        """The answer to one line, of a connection that is made again where it was closed."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(20.0)
            with _folder(self.run_dir):
                self._socket.connect("sock")
        self._socket.sendall(line + b"\n")
        answers = protocol.Decoder().feed(self._socket.recv(1 << 16))
        answer: dict[str, Any] = answers[0][0]
        return answer

    def ask(self, **message: Any) -> dict[str, Any]:
        return self.say(json.dumps(message).encode())

    def hang_up(self) -> None:
        if self._socket:
            self._socket.close()
        self._socket = None

    def told(self, event: str) -> list[dict[str, Any]]:
        records = [record for record, _ in read_from(str(self.run_dir / "journal.jsonl"), 0)]
        return [record for record in records if record["event"] == event]


class _folder:  # noqa: N801
    """The current folder for a moment: the path of a socket may be 107 bytes at most."""

    def __init__(self, path: Path) -> None:
        self._path, self._before = path, Path.cwd()

    def __enter__(self) -> None:
        os.chdir(self._path)

    def __exit__(self, *_: object) -> None:
        os.chdir(self._before)


@pytest.fixture
def supervised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervised]:
    monkeypatch.setenv("LAUNCHER_LOCK_SCOPE", str(tmp_path))
    run_dir = tmp_path / "runs" / "calm-hare"
    run_dir.mkdir(parents=True)
    made = Supervised(run_dir)
    yield made
    made.hang_up()
    with suppress(OSError, IndexError):  # it has left, or just does
        made.ask(op="stop", grace=0.0)
    labs.wait_until(lambda: not run_lock.is_alive(str(run_dir)), "the supervisor to be gone", 10)
    made.hang_up()


BAD = [
    (b"{}", "unknown-request"),
    (b'{"op": "dance"}', "unknown-request"),
    (b'{"op": ["stop"]}', "unknown-request"),
    (b'{"op": "stop", "grace": "soon"}', "bad-request"),
    (b'{"op": "stop", "why": 5}', "bad-request"),
    (b'{"op": "stacks"}', "bad-request"),
    (b'{"op": "rank-exited"}', "bad-request"),
    (b'{"op": "rank-started", "key": "rank-0", "rank": "0", "pid": 1}', "bad-request"),
    (b'{"op": "start", "stage": "run", "attempt": 1}', "bad-request"),
    (b'{"op": "subscribe", "version": 2}', "other-version"),
    (b"x", "bad-request"),
    (b"[1]", "bad-request"),
    (b"\xff\xfe", "bad-request"),
    (b"[" * 5000, "bad-request"),
    (b'{"op": "stop", "size": 1000000000000}', "bad-request"),
]


def test_no_message_ends_a_supervisor(supervised: Supervised) -> None:
    assert supervised.ask(**START) == {"ok": {}}
    for line, code in BAD:
        assert supervised.say(line)["error"]["code"] == code, line
        supervised.hang_up()
    assert not supervised.told("ProcessExited"), "the rank goes on"
    assert supervised.ask(op="stop") == {"ok": {}}, "what is missing has a default"
    labs.wait_until(lambda: bool(supervised.told("HostEnded")), "the end", 10)
    (stop,) = supervised.told("StopRequested")
    assert (stop["grace"], stop["why"]) == (0.5, "by-user")


def test_one_that_makes_no_sense_is_hung_up_on(supervised: Supervised) -> None:
    """It may write for ever, and read nothing."""
    supervised.say(b"what?")
    assert supervised._socket is not None
    assert supervised._socket.recv(10) == b""


def test_a_start_that_fails_is_answered(supervised: Supervised) -> None:
    """A disk that is full, or a bug: the launcher hears of it, and the supervisor goes on."""
    (supervised.run_dir / "logs").write_text("in the way")
    assert supervised.ask(**START)["error"]["code"] == "os"


@pytest.mark.thorough
@given(
    st.dictionaries(
        st.sampled_from(["stage", "attempt", "processes", "path", "news", "grace"]), JSON
    ),
    st.sampled_from(sorted(requests.REQUESTS)),
)
def test_any_message_is_looked_at(message: dict[str, Any], op: str) -> None:
    with suppress(requests.Refused):
        assert requests.checked({**message, "op": op}) == op


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({}, ""),
        ({"port": None, "gpus": [0], "later": {"x": 1}}, ""),
        ({"attempt": True}, "attempt cannot be True"),
        ({"processes": [PROCESS, {**PROCESS, "argv": "true"}]}, "processes[1].argv is not a list"),
        ({"processes": [{"key": "rank-0"}]}, "processes[0].argv is missing"),
        ({"secrets": {"TOKEN": 5}}, "secrets.TOKEN cannot be 5"),
        ({"news": {"hub": "a"}}, "news.address is missing"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, Any], fault: str) -> None:
    if not fault:
        assert requests.checked({**START, **change}) == "start"
    else:
        with pytest.raises(requests.Refused, match=f"start: {re.escape(fault)}"):
            requests.checked({**START, **change})


# -- relays


@pytest.mark.parametrize(
    "op", sorted({n[3:] for n in dir(Relay) if n.startswith("do_")} - {"survey", "clock", "runs"})
)
def test_a_request_without_its_fields_is_answered(op: str, tmp_path: Path) -> None:
    relay = Relay(str(tmp_path))
    answer = relay._answer({"op": op})
    assert answer.keys() <= {"ok", "error"}
    if "error" in answer:
        assert answer["error"]["code"] == "bad-request"


def test_no_message_ends_a_relay(tmp_path: Path) -> None:
    lines = [
        b"what?",
        b"{}",
        b'{"id": 1, "op": "dance"}',
        b'{"ack": 5}',
        b'{"ack": "x"}',
        b'{"id": 2, "op": "alive", "run": 7}',
        b'{"id": 3, "op": "__init__"}',
        b'{"id": 4, "op": "clock"}',
    ]
    program = f"import sys; sys.argv = ['x', 'relay', {str(tmp_path)!r}]; from launcher.agent.main import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=b"\n".join(lines) + b"\n",
        stdout=subprocess.PIPE,
        cwd=ROOT,
        timeout=30,
    )
    hello, *answers = (message for message, _ in protocol.Decoder().feed(ran.stdout))
    assert (hello["magic"], hello["version"]) == (protocol.MAGIC, protocol.VERSION)
    told = [(a["id"], a.get("error", {}).get("code", "ok")) for a in answers]
    assert told == [
        *((None, "bad-request"), (None, "unknown-request"), (1, "unknown-request")),
        *((None, "unknown-request"), (2, "bad-run"), (3, "unknown-request"), (4, "ok")),
    ]


def test_an_agent_of_another_version_is_named() -> None:
    host = Host("gpu1")
    agent_client._agreed(host, b'$ {"magic":"launcher-agent","version":1,"later":[]}')
    for line in (b'{"magic":"launcher-agent","version":2}', b"launcher-agent"):
        with pytest.raises(errors.AgentError, match=r"speaks version 2 .* speaks 1|not ours"):
            agent_client._agreed(host, line)


def test_a_journal_with_a_damaged_line_is_read(tmp_path: Path) -> None:
    """A power cut leaves zeros, and a boot later somebody attaches."""
    path = tmp_path / "journal.jsonl"
    lines = [
        b'{"seq": 0, "event": "A"}',
        b"\0\0\0",
        b"[]",
        b'{"seq": "1", "event": "B"}',
        b'{"event": "C"}',
        b'{"seq": 5, "event": "D"}',
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    read = read_from(str(path), 0)
    assert [record["event"] for record, _ in read] == ["A", "D"]
    assert read[-1][1] == path.stat().st_size
