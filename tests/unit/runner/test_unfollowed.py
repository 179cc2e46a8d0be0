"""Which runs are followed again: those whose hosts all have answered, and no others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from launcher.records import adoption, codec
from launcher.records import events as ev
from launcher.records.record_files import write_json
from launcher.records.run_folder import RunFolder
from launcher.records.run_reader import RunReader
from launcher.runner import unfollowed
from launcher.runner.unfollowed import Answered, Refreshed
from launcher.spec.model import Host, Inventory, Job, Layout, Node, Request

HOSTS = (Host("gpu1", address="127.0.0.1", port=1), Host("gpu2", address="127.0.0.1", port=1))
INVENTORY = Inventory(HOSTS)
STARTED = (ev.StageStarted(1.0, "run"), ev.AllStarted(2.0, 0))
WAITS_AGAIN = (ev.WaitsAgain(3.0, "gpu1", 1, ("gpu1", "gpu2")),)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path))


def _run(tmp_path: Path, *events: ev.Event, name: str = "calm-owl-1") -> Path:
    path = tmp_path / "runs" / name
    path.mkdir(parents=True)
    folder = RunFolder(path)
    layout = Layout(name, tuple(Node(host, i, 1, i) for i, host in enumerate(HOSTS)))
    request = Request(Job(("t.py",)), INVENTORY, HOSTS)
    folder.write("run.json", codec.describe_run(request, layout, 0.0))
    for event in events:
        folder.record(event)
    folder.close()
    return path


def _left() -> list[str]:
    return [run.name for run in unfollowed.unfollowed()]


def test_a_run_that_goes_on_is_one(tmp_path: Path) -> None:
    _run(tmp_path, *STARTED)
    assert _left() == ["calm-owl-1"]


def test_a_run_that_is_followed_or_over_is_none(tmp_path: Path) -> None:
    path = _run(tmp_path, *STARTED)
    folder = RunFolder(path)
    assert folder.hold()
    assert _left() == []
    folder.close()
    write_json(path / "receipt.json", {})
    assert _left() == []


@pytest.mark.parametrize("events", [(), STARTED[:1]])
def test_a_run_whose_ranks_never_started_is_none(
    tmp_path: Path, events: tuple[ev.Event, ...]
) -> None:
    """A follower would end it."""
    _run(tmp_path, *events)
    assert _left() == []


def test_a_run_of_another_machine_is_none(tmp_path: Path) -> None:
    write_json(_run(tmp_path, *STARTED) / adoption.FILE, {})
    assert _left() == []


def test_a_damaged_run_keeps_nobody_from_the_others(tmp_path: Path) -> None:
    (_run(tmp_path, *STARTED, name="bad-1") / "run.json").write_text("{")
    _run(tmp_path, *STARTED)
    assert _left() == ["calm-owl-1"]


def _answers(monkeypatch: pytest.MonkeyPatch, *said: tuple[str, Any]) -> list[Answered]:
    """What `ask` concludes from the answers of hosts: whether the run lives there, or a problem."""

    async def visit(inventory: Inventory, nodes: object, tell: Any) -> None:
        for host, what in said:
            problem = what if isinstance(what, str) else ""
            alive = what if isinstance(what, dict) else {}
            tell(unfollowed._Said(inventory, host, alive, problem))
        await asyncio.sleep(60)

    monkeypatch.setattr(unfollowed, "_ask_hosts", visit)

    async def collect() -> list[Answered]:
        return [one async for one in unfollowed.ask(unfollowed.unfollowed(), 0.05)]

    return asyncio.run(collect())


ALIVE, OVER = {"calm-owl-1": True}, {"calm-owl-1": False}


@pytest.mark.parametrize(
    ("said", "alive", "silent"),
    [
        ((("gpu1", ALIVE), ("gpu2", ALIVE)), True, {}),
        ((("gpu1", ALIVE), ("gpu2", OVER)), False, {}),
        ((("gpu1", ALIVE), ("gpu2", {})), False, {"gpu2": "it has no such run"}),
        ((("gpu1", ALIVE), ("gpu2", "no route")), False, {"gpu2": "no route"}),
        ((("gpu1", ALIVE),), False, {"gpu2": "no answer within 0.05 s"}),
    ],
)
def test_a_run_is_known_once_all_its_hosts_have_answered(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: tuple[tuple[str, Any], ...],
    alive: bool,
    silent: dict[str, str],
) -> None:
    _run(tmp_path, *STARTED)
    assert _answers(monkeypatch, *said) == [Answered("calm-owl-1", alive, silent)]


@pytest.mark.parametrize(
    ("answer", "more", "is_so"),
    [
        (Answered("calm-owl-1", True), (), True),
        (Answered("calm-owl-1", False), (), False),
        (Answered("calm-owl-1", True, {}, 1), (), False),
        (Answered("calm-owl-1", True, {}, 1), WAITS_AGAIN, True),
        (Answered("calm-owl-1", False, {}, 1), WAITS_AGAIN, True),
        (Answered("calm-owl-1", True, {}, 2), WAITS_AGAIN, False),
    ],
)
def test_what_is_recorded_of_a_run_is_old_until_it_says_what_the_hosts_do(
    tmp_path: Path, answer: Answered, more: tuple[ev.Event, ...], is_so: bool
) -> None:
    """One that gave its GPUs back with nobody in touch waits, and does not run."""
    path = _run(tmp_path, *STARTED, *more)
    assert unfollowed._is_recorded(answer, RunReader(path)) is is_so


def test_nobody_is_asked_when_all_runs_are_followed() -> None:
    assert unfollowed.refresh(2.0) == Refreshed()


def test_nothing_of_the_folder_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ls` is typed anywhere, also in a clone with a module that is named like one of Python's."""
    _run(tmp_path, *STARTED)
    clone = tmp_path / "clone"
    clone.mkdir()
    for name in ("asyncio", "json", "subprocess", "yaml"):
        (clone / f"{name}.py").write_text("open('SURPRISE', 'w')\nraise SystemExit\n")
    monkeypatch.chdir(clone)
    found = unfollowed.refresh(60.0)
    assert set(found.unknown["calm-owl-1"]) == {"gpu1", "gpu2"}, "the hosts were asked"
    assert not (clone / "SURPRISE").exists()
