"""A run that could not be cleaned up on a host is remembered until each of its hosts was looked at."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from launcher.fleet import cleanup
from launcher.transport.agent_client import Agent
from launcher.transport.answers.runs import Standing, Swept


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))
    return tmp_path


class Clean:
    """An agent of a host on which nothing is left."""

    def __init__(self) -> None:
        self.closed = asyncio.get_running_loop().create_future()

    async def ask(self, op: str, **rest: object) -> None:
        assert op == "stop"

    async def answer(self, kind: type, op: str, **rest: object) -> Any:
        if kind is Standing:
            return Standing(alive=False, now=0.0)
        return Swept(left=(), killed=0, scanned=1, unreadable=0)


def finish(host: str) -> list[str]:
    """Look at a host once more."""

    async def look() -> list[str]:
        return await cleanup.finish(cast("Agent", Clean()), host)

    return asyncio.run(look())


def test_an_emptied_note_of_an_unfinished_run_keeps_no_other_run_from_starting(home: Path) -> None:
    """A power cut left it so; the run may be on any host, so it is looked for on each."""
    cleanup.remember("there", ["a", "b"])
    cleanup.remember("whole", ["b"])
    (home / "unfinished" / "there.json").write_text("")
    assert cleanup.unfinished("a") == ["there"]
    assert sorted(cleanup.unfinished("b")) == ["there", "whole"]


def test_an_emptied_note_lasts_until_each_host_of_the_receipt_was_looked_at(home: Path) -> None:
    cleanup.remember("there", ["a", "b"])
    (home / "unfinished" / "there.json").write_text("")
    folder = home / "runs" / "there"
    folder.mkdir(parents=True)
    receipt = {"hosts": [{"host": "a"}, "damaged", {"host": "b"}, {"host": 7}]}
    (folder / "receipt.json").write_text(json.dumps(receipt))
    assert finish("a") == ["there"]
    assert cleanup.unfinished("a") == []
    assert cleanup.unfinished("b") == ["there"]
    assert finish("b") == ["there"]
    assert not list((home / "unfinished").iterdir())
