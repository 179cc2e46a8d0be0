"""Opening hosts: what was opened is closed, however that ends."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from launcher.fleet import silent_hosts
from launcher.records import events as ev
from launcher.records.run_folder import RunFolder
from launcher.runner import connect, opening_hosts
from launcher.runner.context import RunContext
from launcher.runner.event_log import EventLog
from launcher.runner.host_session import HostSession
from launcher.runner.host_set import HostSet
from launcher.runner.listeners import ignore_event, ignore_log
from launcher.runner.stop import StopSwitch
from launcher.runner.waiting.place import Place
from launcher.spec.data import DataSet
from launcher.spec.errors import CheckFailed, HostError
from launcher.spec.inventory import Inventory
from launcher.spec.model import Facts, Host, Job, Request

HOSTS = tuple(map(Host, ("quick", "slow")))


class Opening:
    """A host set whose sessions connect to nobody: ``quick`` opens, and ``slow`` does not, or fails."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, fail: Exception | None
    ) -> None:
        record = RunFolder(folder)
        log = EventLog(record, ignore_event)
        job = Job(run=("x",), num_nodes=2, needs=("/a",), data=(DataSet("d", "file:///set"),))
        request = Request(job, Inventory(HOSTS), HOSTS)
        self.context = RunContext(request, record, log, StopSwitch(log.wake), 0.0)
        self.hosts = HostSet(self.context, ignore_log)
        self.slow_is_opening = asyncio.Event()
        self.closed: list[str] = []
        self._fail = fail
        self.no_paths: dict[str, tuple[str, ...]] = {}
        monkeypatch.setattr(connect, "open_one", self._open)
        monkeypatch.setattr(HostSession, "close", lambda session: self._close(session))

    async def connect(self) -> bool:
        return await connect.connect(self.context, self.hosts, Place(self.context))

    async def _open(self, session: HostSession) -> None:
        if self.no_paths:
            facts = Facts(session.name, session.name, "/root", "python3", "3.11", 1)
            session._line._facts = replace(facts, no_paths=self.no_paths[session.name])
            return
        if session.name == "slow":
            self.slow_is_opening.set()
            if self._fail:
                raise self._fail
            await asyncio.Event().wait()

    async def _close(self, session: HostSession) -> None:
        self.closed.append(session.name)


def test_a_cancelled_start_closes_what_it_has_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> list[str]:
        opening = Opening(tmp_path, monkeypatch, None)
        connecting = asyncio.ensure_future(opening.connect())
        await opening.slow_is_opening.wait()
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await opening.hosts.close()
        return opening.closed

    assert sorted(asyncio.run(test())) == ["quick", "slow"]


@pytest.mark.parametrize("error", [HostError("slow", "no answer"), KeyError("a bug")])
def test_each_host_is_closed_once_where_one_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def test() -> Any:
        opening = Opening(tmp_path, monkeypatch, error)
        with pytest.raises(Exception) as raised:  # noqa: PT011 - each of the parameters
            await opening.connect()
        await opening.hosts.close()
        return opening.closed, raised.value

    closed, raised = asyncio.run(test())
    assert sorted(closed) == ["quick", "slow"]
    assert raised is not None


@pytest.mark.parametrize(
    ("quick", "slow", "message", "hint"),
    [
        (("/a",), ("/a", "/set"), "data: /set is missing on slow", "mount it there"),
        (("/a",), ("/a",), "needs: /a is missing on quick,slow", "copy it there"),
        (
            (),
            ("/a", "/set"),
            "data: /set is on quick only, and not on slow",
            "mount it on the others",
        ),
        ((), ("/a",), "needs: /a is on quick only, and not on slow", "copy it to the others"),
    ],
)
def test_what_hosts_lack_is_told_by_one_key_of_the_job(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    quick: tuple[str, ...],
    slow: tuple[str, ...],
    message: str,
    hint: str,
) -> None:
    """A data set that hosts share is mounted; what the job needs besides is copied."""

    async def test() -> CheckFailed:
        opening = Opening(tmp_path, monkeypatch, None)
        opening.no_paths = {"quick": quick, "slow": slow}
        with pytest.raises(CheckFailed) as raised:
            await opening.connect()
        await opening.hosts.close()
        return raised.value

    found = asyncio.run(test())
    assert found.message.startswith(message)
    assert hint in str(found.hint)


def test_a_host_that_is_off_is_not_waited_for_while_others_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second time not even for a moment, until it has answered again."""
    monkeypatch.setenv("LAUNCHER_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(opening_hosts, "LEAST", 0.2)

    async def test() -> tuple[float, list[str]]:
        folder = tmp_path / str(time.monotonic())
        folder.mkdir()
        fake = Opening(folder, monkeypatch, None)
        both = opening_hosts.Opening(fake.context, fake.hosts, connect.open_one)
        began = time.monotonic()
        both.begin(HOSTS)
        await both.settle(has_others=False)
        assert (both.silent, [one.name for one in fake.hosts.active]) == (("slow",), ["quick"])
        took = time.monotonic() - began
        await both.leave()
        assert (both.silent, fake.hosts.aside) == ((), ())
        events = [one for one in fake.context.events if isinstance(one, ev.HostsSilent)]
        assert [one.hosts for one in events] == [("slow",)]
        return took, fake.closed

    took, closed = asyncio.run(test())
    assert (took >= 0.2, closed) == (True, ["slow"])
    assert silent_hosts.lately(["quick", "slow"]) == {"slow"}
    monkeypatch.setattr(opening_hosts, "LEAST", 3600.0)
    assert asyncio.run(test())[0] < 1800.0
    silent_hosts.forget("slow")
    assert silent_hosts.lately(["slow"]) == frozenset()
