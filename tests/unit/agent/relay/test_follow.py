"""What a relay sends of the files of a run, however many there are."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import protocol, received
from launcher.agent.relay import appended
from launcher.agent.relay.follow import Follow
from support.descriptors import few_descriptors


@pytest.mark.thorough
def test_a_thousand_ranks_with_both_streams_need_few_descriptors(tmp_path: Path) -> None:
    folder = tmp_path / "logs" / "attempt-0"
    folder.mkdir(parents=True)
    for rank in range(1000):
        (folder / f"rank-{rank}.out").write_bytes(b"o" * 100)
        (folder / f"rank-{rank}.err").write_bytes(b"e" * 50)
    (tmp_path / "logs" / "not-a-folder").write_text("of the user")
    os.mkfifo(folder / "rank-0.pipe")  # nobody waits for one who writes into it
    sent: Counter[str] = Counter()

    def say(message: dict[str, object], payload: bytes = b"") -> None:
        if "log" in message:
            sent[str(message["log"])] += len(payload)

    with few_descriptors(24):
        follow = Follow(str(tmp_path), say, 0, {})
        follow.pump()
        (folder / "rank-999.out").write_bytes(b"o" * 120)
        follow.eager()
        follow.pump()
    assert len(sent) == 2000
    assert sum(sent.values()) == 150_020 < protocol.WINDOW
    assert sent["attempt-0/rank-999.out"] == 120


class Sent:
    """What a relay has sent, by the name of each log."""

    def __init__(self) -> None:
        self.logs: dict[str, bytes] = {}
        self.idle: dict[str, int] = {}

    def say(self, message: dict[str, Any], payload: bytes = b"") -> None:
        """Take a message."""
        if "log" in message:
            known = self.logs.get(message["log"], b"")
            assert message["offset"] == len(known)
            self.logs[message["log"]] = known + payload
        self.idle = message.get("idle", self.idle)


def test_files_that_are_only_appended_to_travel_as_logs_do(tmp_path: Path) -> None:
    """Those that other hosts have shared, that stay on hosts, and that lead elsewhere do not."""
    board = tmp_path / "outputs" / "board"
    for folder in (board, tmp_path / "code" / "runs", tmp_path / "code" / "other"):
        folder.mkdir(parents=True)
    (board / "events.out.tfevents.1").write_bytes(b"one")
    (board / "model.pt").write_bytes(b"large")
    (board / "kept.tfevents.2").write_bytes(b"kept")
    (board / "link.tfevents.3").symlink_to("/etc/passwd")
    os.mkfifo(board / "pipe.tfevents.4")
    (board / "theirs.tfevents.5").write_bytes(b"theirs")
    received.note(str(tmp_path), "outputs/board/theirs.tfevents.5", 6, 1)
    (tmp_path / "code" / "runs" / "run-7.wandb").write_bytes(b"two")
    (tmp_path / "code" / "other" / "x.tfevents.6").write_bytes(b"not named")
    sent = Sent()
    live = {"paths": ["runs", "**/*.pt"], "kept": ["*/kept.*"]}
    follow = Follow(str(tmp_path), sent.say, 0, {"live/board/events.out.tfevents.1": 1}, live)
    sent.logs["live/board/events.out.tfevents.1"] = b"o"
    follow.pump()
    assert sent.logs == {
        "live/board/events.out.tfevents.1": b"one",
        "live/runs/run-7.wandb": b"two",
    }
    with (board / "events.out.tfevents.1").open("ab") as file:
        file.write(b", two")
    (board / "late.tfevents.8").write_bytes(b"x" * (protocol.LIVE_PIECE * 3))
    follow.ended = True
    follow.eager()
    while not sent.idle:
        follow.next_look = 0.0
        follow.pump()
    assert sent.logs["live/board/events.out.tfevents.1"] == b"one, two"
    assert sent.idle == {name: len(data) for name, data in sent.logs.items()}
    assert sent.idle["live/board/late.tfevents.8"] == protocol.LIVE_PIECE * 3


def test_how_many_and_how_large_they_are_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "LIVE_FILES", 3)
    monkeypatch.setattr(protocol, "LIVE_BYTES", 5)
    (tmp_path / "outputs").mkdir()
    for number in range(9):
        (tmp_path / "outputs" / f"a.tfevents.{number}").write_bytes(b"0123456789")
    sent = Sent()
    follow = Follow(str(tmp_path), sent.say, 0, {}, {})
    follow.pump()
    assert sorted(map(len, sent.logs.values())) == [5, 5, 5]
    monkeypatch.setattr(appended, "ENTRIES", 4)
    few = Sent()
    Follow(str(tmp_path), few.say, 0, {}, {}).pump()
    assert len(few.logs) <= 3


def test_an_older_launcher_gets_logs_alone(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "a.tfevents.1").write_bytes(b"0")
    sent = Sent()
    Follow(str(tmp_path), sent.say, 0, {}).pump()
    assert not sent.logs
