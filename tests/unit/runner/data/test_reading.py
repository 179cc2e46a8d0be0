"""Sources that take their time are read beside everything else, and say how far that is."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from launcher.agent.base import manifest
from launcher.records import events as ev
from launcher.runner.data import reading
from launcher.runner.data.host import Host
from launcher.spec.errors import InputError
from support.lab_spec import wait_until


def nowhere(name: str) -> AbstractAsyncContextManager[Host]:
    """Reach no host: these sources are here."""
    raise AssertionError(name)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three pieces in one file."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(reading, "EVERY", 0.0)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a").write_bytes(bytes(3 * manifest.PIECE))
    return tmp_path / "set"


def test_it_is_told_how_far_it_is_until_it_is_over(folder: Path) -> None:
    told: list[ev.Event] = []
    listed = asyncio.run(reading.read("corpus", str(folder), told.append, nowhere))
    assert listed.version.bytes == 3 * manifest.PIECE
    *going_on, last = [event for event in told if isinstance(event, ev.SourceRead)]
    assert [event.bytes for event in going_on] == [n * manifest.PIECE for n in (1, 2, 3)]
    assert {event.name for event in told if isinstance(event, ev.SourceRead)} == {"corpus"}
    assert (last.is_over, [event.is_over for event in going_on]) == (True, [False] * 3)


def test_whoever_gives_up_ends_it(folder: Path) -> None:
    """It stops within a piece, and leaves no half of a version."""

    async def run() -> None:
        task = asyncio.ensure_future(
            reading.read("corpus", str(folder), lambda event: task.cancel(), nowhere)
        )
        with pytest.raises(asyncio.CancelledError):
            await task

    with (folder / "b").open("wb") as file:
        file.truncate(1 << 40)  # a hole, which takes an hour to read
    asyncio.run(run())
    # A thread that gets no processor for two seconds is not waited for.
    wait_until(lambda: not list(folder.parent.rglob(".new-*")), "the half of a version is gone")


def test_what_is_wrong_with_it_is_raised(folder: Path) -> None:
    (folder / "link").symlink_to("nowhere")
    with pytest.raises(InputError, match="does not exist"):
        asyncio.run(reading.read("corpus", str(folder), lambda event: None, nowhere))
