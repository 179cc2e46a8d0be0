"""A relay with much to do keeps answering."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from launcher.agent.base import manifest
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


def test_an_agent_says_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a data set that it reads again, for one: to the byte, but not for each of them."""
    said: list[dict[str, int]] = []
    host = relay.Relay(str(tmp_path))
    monkeypatch.setattr(host, "_say", lambda message, payload=b"": said.append(message))
    version = "0" * manifest.LENGTH
    place = tmp_path / "data" / version
    (place / "files").mkdir(parents=True)
    with (place / "manifest").open("wb") as file:
        file.write(manifest.HEADER)
        for name in (b"a", b"b"):
            (place / "files" / name.decode()).write_bytes(bytes(2 << 20))
            sum_ = manifest.SHA256 + hashlib.sha256(bytes(2 << 20)).hexdigest().encode()
            file.write(manifest.encode(manifest.Entry(name, 2 << 20, False, sum_)))
    for every, expected in ((1e9, []), (-1.0, [0, 1, 2, 2, 3, 4])):
        monkeypatch.setattr(relay, "TELLING", every)
        assert host.do_data({"do": "verify", "version": version})["count"] == 0
        assert said == [{"working": 1, "done": count << 20} for count in expected]
    said.clear()
    (tmp_path / "data/locks").mkdir()
    (place / "files/b").write_bytes(b"no")
    assert host.do_data({"do": "verify", "version": version})["count"] == 1
    told = [one["done"] >> 20 for one in said if "done" in one]
    assert told == sorted(told), "what is repaired then is not counted anew"
