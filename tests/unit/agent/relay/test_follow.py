"""What a relay sends of the files of a run, however many there are."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from launcher.agent.base import protocol
from launcher.agent.relay.follow import Follow
from support.descriptors import few_descriptors


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
