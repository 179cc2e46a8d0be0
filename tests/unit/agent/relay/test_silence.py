"""A relay with much to do keeps answering."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.agent.relay import relay


def test_an_agent_that_goes_over_many_files_is_not_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answer may take longer than anything else: it says so on the way."""
    outputs = tmp_path / "runs" / "calm-hare" / "outputs"
    outputs.mkdir(parents=True)
    for number in range(3):
        (outputs / str(number)).touch()
    said: list[object] = []
    monkeypatch.setattr(relay, "WORKING", -1.0)
    host = relay.Relay(str(tmp_path))
    monkeypatch.setattr(host, "_say", lambda message, payload=b"": said.append(message))
    answer = host.do_outputs({"run": "calm-hare", "paths": []})
    assert [path for path, _, _ in answer["outputs"]] == ["0", "1", "2"]
    assert said == [{"working": 1}] * 4, "one folder and three files"
