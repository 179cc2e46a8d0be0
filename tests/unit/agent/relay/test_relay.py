"""Requests to a relay, without a connection."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.agent.base import journal
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
