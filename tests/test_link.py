"""A connection that dropped: how long a host is tried again; what its supervisor is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import lab as labs
import pytest
from conftest import Launcher

from launcher.records import events as ev
from launcher.runner.host_session import Link
from launcher.spec import errors
from launcher.spec import inventory as inventories
from launcher.spec.inventory import Inventory
from launcher.spec.model import Facts, Host, Job, Layout, Request
from launcher.transport.agent_client import Agent
from launcher.transport.ssh import Dialler

AnyLink = TypeVar("AnyLink", bound=Link)


class _Asleep(Link):
    """One whose machine sleeps for an hour during its first try; the second one reaches the host."""

    tries = 0

    async def _dial(self) -> None:
        self.tries += 1
        if self.tries == 1:
            raise errors.ConnectionLost(self.name, "no network")

    async def _ask_to_follow(self, run: str) -> None:
        self.agent.closed = asyncio.get_running_loop().create_future()  # it holds


def test_a_host_is_tried_again_after_a_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than --lost-after by the clock on the wall, which goes on while a laptop sleeps."""
    awake = time.time

    def sleep(link: _Asleep) -> None:
        monkeypatch.setattr(time, "time", lambda: awake() + (3600 if link.tries else 0))

    assert isinstance(_first_word(_Asleep, 20, sleep), ev.ConnectionResumed)


class _Swallowed(Link):
    """One whose host swallows every packet: a try has no end of its own."""

    async def _dial(self) -> None:
        await asyncio.Event().wait()


def test_a_try_takes_no_longer_than_the_host_is_waited_for(tmp_path: Path) -> None:
    told: list[ev.Event] = []
    unused: Any = None

    async def wait() -> None:
        link = _Swallowed(Host("far"), unused, unused, told.append, unused)
        async with asyncio.timeout(5):
            await link._keep_following("run", 0.1)

    asyncio.run(wait())
    assert [type(event) for event in told] == [ev.ConnectionDropped, ev.NodeLost]


class _Slow(Link):
    """One whose host answers, later than a host that falls silent is waited for."""

    begun = 0.0

    async def _dial(self) -> None:
        await asyncio.sleep(max(0.0, self.begun + 0.1 - time.monotonic()))

    async def _ask_to_follow(self, run: str) -> None:
        self.agent.closed = asyncio.get_running_loop().create_future()  # it holds


def test_a_launcher_that_has_just_come_gives_its_hosts_time_to_answer() -> None:
    """However short --lost-after is: nobody has asked them yet."""

    def begin(link: _Slow) -> None:
        link.begun = time.monotonic()

    assert isinstance(_first_word(_Slow, 0.05, begin), ev.ConnectionResumed)


def _first_word(
    kind: type[AnyLink], lost_after: float, begin: Callable[[AnyLink], None]
) -> ev.Event:
    """What a launcher that has just come is told first of a host of this kind."""
    told: list[ev.Event] = []
    heard = asyncio.Event()
    unused: Any = None

    def emit(event: ev.Event) -> None:
        told.append(event)
        heard.set()

    async def come() -> None:
        link = kind(Host("far"), unused, unused, emit, unused)
        link._facts = Facts("far", "far", "/root", "python3", "3.11", 1)
        begin(link)
        following = asyncio.ensure_future(link._keep_following("run", lost_after, connected=False))
        await heard.wait()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)

    asyncio.run(come())
    return told[0]


class _Dropping(Link):
    """One whose connection drops while the agent does what it was asked for."""

    async def _dial(self) -> None:
        if self.comes_back:
            self.agent = _Answering()  # type: ignore[assignment]
        else:
            raise errors.ConnectionLost(self.name, "no network")

    async def _ask_to_follow(self, run: str) -> None:
        self.reached.set()

    comes_back = True


class _Answering:
    """An agent that answers; or whose connection drops first."""

    def __init__(self, drops: bool = False) -> None:
        self.closed = asyncio.get_running_loop().create_future()
        self.drops = drops

    async def ask(self, **request: Any) -> dict[str, Any]:
        if self.drops:
            self.closed.set_result(None)
            raise errors.ConnectionLost("far", "the connection was lost")
        return {"asked": request}


@pytest.mark.parametrize("comes_back", [True, False])
def test_what_was_asked_for_is_asked_again_after_a_drop(comes_back: bool) -> None:
    """Until the host is given up: a run does not end because a line breaks while it starts."""
    told: list[ev.Event] = []
    unused: Any = None

    async def start() -> dict[str, Any]:
        link = _Dropping(Host("far"), unused, unused, told.append, unused)
        link._facts = Facts("far", "far", "/root", "python3", "3.11", 1)
        link.comes_back, link.agent = comes_back, _Answering(drops=True)  # type: ignore[assignment]
        link.reached.set()
        link._following = asyncio.ensure_future(link._keep_following("run", 0.1))
        try:
            async with asyncio.timeout(5):
                return await link.insist(op="start")
        finally:
            link._following.cancel()
            await asyncio.gather(link._following, return_exceptions=True)

    if comes_back:
        assert asyncio.run(start()) == {"asked": {"op": "start"}}
        assert [type(event) for event in told] == [ev.ConnectionDropped, ev.ConnectionResumed]
    else:
        with pytest.raises(errors.ConnectionLost):
            asyncio.run(start())
        assert [type(event) for event in told] == [ev.ConnectionDropped, ev.NodeLost]


@pytest.mark.parametrize(("asked", "seconds"), [(None, 600.0), (3.0, 3.0)])
def test_stalls_are_told_unasked(asked: float | None, seconds: float) -> None:
    """After 10 minutes; nothing of ours is put into the ranks then."""
    told: dict[str, Any] = {}

    class Agent:
        async def ask(self, operation: str, **words: Any) -> None:
            told.update(words)

    unused: Any = None

    async def supervise() -> None:
        link = Link(Host("near"), unused, unused, unused, unused)
        link._facts = Facts("near", "near", "/root", "python3", "3.11", 1)
        agent: Any = Agent()
        link.agent = agent
        request = Request(Job(run=("x",)), Inventory(()), (), stall_timeout=asked)
        await link.supervise(Layout("run", ()), request, {}, 0)

    asyncio.run(supervise())
    assert (told["spec"]["stall"], told["spec"]["inside"]) == (seconds, asked is not None)


def test_a_connection_lost_while_a_session_opens_is_told_as_that(
    lab: labs.Lab, inventory: Path
) -> None:
    """And not as a host that opens none: the hint would be about its sshd_config."""
    known = inventories.load(inventory.read_text(), str(inventory))
    host = lab.hosts["lab1"]

    async def lose() -> None:
        connection = await Dialler(known).connect("lab1")
        host.kill_sshd_sessions()
        with pytest.raises(errors.ConnectionLost) as caught:
            await Agent.open(known.host("lab1"), connection)
        assert "the connection was lost" in caught.value.message

    asyncio.run(lose())


def test_a_drop_while_processes_are_started_starts_each_of_them_once(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Whether the host's answer was on its way or not: it is asked again."""
    host, count = clean.hosts["lab2"], 40
    flags = ["--nodes", "2", "--nproc-per-node", str(count), "--framework", "torch"]
    script = launcher.script("import time\nprint('once', flush=True)\ntime.sleep(1)\n")
    process = launcher.start(*flags, script)
    try:
        labs.wait_until(lambda: list(launcher.home.glob("runs/*")), "its name")
        (run,) = launcher.home.glob("runs/*")  # others have left theirs on the host
        logs = host.path(f"/root/.launcher/host/runs/{run.name}/logs/attempt-0")
        labs.wait_until(lambda: any(logs.glob("rank-*.out")), "a first process")
        host.kill_sshd_sessions()
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err.decode()
    assert b"lab2: the connection dropped" in err
    said = [log.read_bytes() for log in launcher.home.glob("runs/*/logs/attempt-0/rank-*.out")]
    assert said == [b"once\n"] * 2 * count
