"""A dropped connection: how long it is tried again, and what is asked again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from launcher.records import events as ev
from launcher.records.run_folder import RunFolder
from launcher.runner.context import RunContext
from launcher.runner.event_log import EventLog
from launcher.runner.host_session import HostSession, Phase
from launcher.runner.stop import StopSwitch
from launcher.spec import errors
from launcher.spec.containers import Container, ContainerSpec
from launcher.spec.environments import Environment
from launcher.spec.inventory import Inventory
from launcher.spec.model import Facts, Host, Job, Layout, Node, Request, Role
from launcher.transport.agent_client import Agent


class FakeAgent:
    """Answers everything; or its connection drops at one operation."""

    def __init__(self, drops_at: str = "") -> None:
        self.closed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.asked: dict[str, dict[str, Any]] = {}
        self._drops_at = drops_at

    async def ask(self, op: str, **request: Any) -> dict[str, Any]:
        if op == self._drops_at:
            self.drop()
        if self.closed.done():
            raise errors.ConnectionLost("far", "the connection was lost")
        self.asked[op] = request
        return {"asked": op}

    async def answer(self, kind: type[Any], op: str, **request: Any) -> Any:
        await self.ask(op, **request)
        return kind()

    async def probe(self, with_gpus: bool = True, needs: object = ()) -> Facts:
        return Facts("far", "far", "/root", "python3", "3.11", 1)

    def drop(self) -> None:
        self.closed.set_result("the connection dropped")

    async def close(self) -> None:
        """Nothing to let go of."""


@dataclass
class FakeSsh:
    """A connection with an agent at its other end."""

    agent: FakeAgent

    def abort(self) -> None:
        """It is gone anyhow."""

    def close(self) -> None:
        """Nothing to let go of."""


class Far:
    """A host, and the session with it. ``dial`` is what a try to reach it does, by its number."""

    def __init__(
        self,
        folder: Path,
        dial: Callable[[int], Awaitable[FakeAgent]],
        job: Job | None = None,
        **options: Any,
    ) -> None:
        self.told: list[type[ev.Event]] = []
        self.tries = 0
        self._dial, self._heard = dial, asyncio.Event()
        record = RunFolder(folder)
        log = EventLog(record, self._hear)
        request = Request(job or Job(run=("x",)), Inventory(()), (), **options)
        context = RunContext(request, record, log, StopSwitch(log.wake), 0.0)
        dialler: Any = self
        self.session = HostSession(Host("far"), dialler, context, lambda host, name, data: None)

    async def connect(self, name: str) -> FakeSsh:
        self.tries += 1
        return FakeSsh(await self._dial(self.tries))

    def _hear(self, event: ev.Event) -> None:
        self.told.append(type(event))
        self._heard.set()

    async def hears(self, kind: type[ev.Event]) -> None:
        async with asyncio.timeout(60):
            while kind not in self.told:
                self._heard.clear()
                await self._heard.wait()


@pytest.fixture(autouse=True)
def fake_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake connection leads to its own agent."""

    async def open_fake(host: Host, connection: FakeSsh) -> FakeAgent:
        return connection.agent

    monkeypatch.setattr(Agent, "open", open_fake)


HOST_ENDED = {"event": "HostEnded", "time": 1.0, "left": 0, "scanned": 1, "unreadable": 0}


async def always(number: int) -> FakeAgent:
    """The host can be reached."""
    return FakeAgent()


def unreachable() -> errors.HostError:
    return errors.ConnectionLost("far", "no network")


def test_a_host_is_tried_again_after_a_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer than --lost-after by the clock on the wall, which goes on while a laptop sleeps."""
    awake = time.time

    async def asleep_at_first(number: int) -> FakeAgent:
        if number == 1:
            monkeypatch.setattr(time, "time", lambda: awake() + 3600)
            raise unreachable()
        return FakeAgent()

    async def come() -> list[type[ev.Event]]:
        far = Far(tmp_path, asleep_at_first, lost_after=20.0)
        far.session.rejoin([])
        await far.session.until_reached()
        await far.session.close()
        return far.told

    assert asyncio.run(come()) == [ev.ConnectionResumed]


def test_a_try_takes_no_longer_than_the_host_is_waited_for(tmp_path: Path) -> None:
    """Not even where the host swallows every packet, so that a try has no end of its own."""

    async def swallowed_later(number: int) -> FakeAgent:
        if number > 1:
            await asyncio.Event().wait()
        return FakeAgent(drops_at="contact")

    async def wait() -> list[type[ev.Event]]:
        far = Far(tmp_path, swallowed_later)
        await far.session.open()
        await far.session.follow(lost_after=0.1)
        await far.hears(ev.NodeLost)
        await far.session.close()
        return far.told

    assert asyncio.run(wait()) == [ev.HostConnected, ev.ConnectionDropped, ev.NodeLost]


def test_a_launcher_that_has_just_come_gives_its_hosts_time_to_answer(tmp_path: Path) -> None:
    """However short --lost-after is: nobody has asked them yet."""

    async def slow(number: int) -> FakeAgent:
        await asyncio.sleep(0.1)
        return FakeAgent()

    async def come() -> list[type[ev.Event]]:
        far = Far(tmp_path, slow, lost_after=0.05)
        far.session.rejoin([])
        await far.session.until_reached()
        await far.session.close()
        return far.told

    assert asyncio.run(come()) == [ev.ConnectionResumed]


@pytest.mark.parametrize("comes_back", [True, False])
def test_what_was_asked_for_is_asked_again_after_a_drop(comes_back: bool, tmp_path: Path) -> None:
    """Until the host is given up: a run does not end because a line breaks while it starts."""
    told: list[type[ev.Event]] = []

    async def dial(number: int) -> FakeAgent:
        if number > 1 and not comes_back:
            raise unreachable()
        return FakeAgent(drops_at="start" if number == 1 else "")

    async def start() -> dict[str, Any]:
        far = Far(tmp_path, dial)
        await far.session.open()
        await far.session.follow(lost_after=60.0 if comes_back else 0.1)
        try:
            async with asyncio.timeout(60):
                return await far.session.insist(op="start")
        finally:
            told.extend(far.told)
            await far.session.close()

    if comes_back:
        assert asyncio.run(start()) == {"asked": "start"}
        assert told == [ev.HostConnected, ev.ConnectionDropped, ev.ConnectionResumed]
    else:
        with pytest.raises(errors.ConnectionLost):
            asyncio.run(start())
        assert told == [ev.HostConnected, ev.ConnectionDropped, ev.NodeLost]


def test_a_supervisor_that_was_started_again_is_not_over(tmp_path: Path) -> None:
    """Even if nobody listens to it yet: a stop that comes then must reach it."""

    async def start_again() -> list[tuple[bool, Phase]]:
        far = Far(tmp_path, always)
        phases = []
        await far.session.open()
        for attempt in (0, 1):
            await far.session.supervise(Layout("run", ()), attempt, {})
            phases.append((far.session.is_over, far.session.phase))
            await far.session.follow(lost_after=1.0)
            far.session.agent.on_journal({**HOST_ENDED, "seq": attempt}, 9)
            far.session.agent.on_idle({})
            phases.append((far.session.is_over, far.session.phase))
        await far.session.close()
        return phases

    once = [(False, Phase.SUPERVISED), (True, Phase.FINISHED)]
    assert asyncio.run(start_again()) == once * 2


@pytest.mark.parametrize(("asked", "seconds"), [(None, 600.0), (3.0, 3.0)])
def test_stalls_are_told_unasked(asked: float | None, seconds: float, tmp_path: Path) -> None:
    """After 10 minutes; nothing of ours is put into the ranks then."""
    agents: list[FakeAgent] = []

    async def dial(number: int) -> FakeAgent:
        agents.append(FakeAgent())
        return agents[-1]

    async def supervise() -> None:
        far = Far(tmp_path, dial, stall_timeout=asked)
        await far.session.open()
        await far.session.supervise(Layout("run", ()), 0, {})
        await far.session.close()

    asyncio.run(supervise())
    spec = agents[0].asked["supervise"]["spec"]
    assert (spec["stall"], spec["inside"]) == (seconds, asked is not None)


@pytest.mark.parametrize("python", ["/opt/python3", ""])
def test_an_image_without_python_gets_no_program_that_starts_itself(
    tmp_path: Path, python: str
) -> None:
    image = Environment(image="x:1")
    there = {image.key: Container("", ContainerSpec("podman", "podman", "x:1", "0:0"), python)}

    async def programs(job: Job, own: str) -> dict[str, str]:
        agent = FakeAgent()

        async def reached(number: int) -> FakeAgent:
            return agent

        far = Far(tmp_path, reached, job)
        await far.session.open()
        layout = Layout("r", (Node(Host("far"), 0, 1, 0, python=own, containers=there),))
        await far.session.supervise(layout, 0, {})
        await far.session.close()
        found: dict[str, str] = agent.asked["supervise"]["programs"]
        return found

    roles = (Role("inside", environment=image), Role("plain"))
    found = asyncio.run(programs(Job((), framework="env", roles=roles), "/usr/bin/python3"))
    inside = {name for name in found if name.startswith("image-0/")}
    assert inside == ({"image-0/python", "image-0/python3"} if python else set())
    assert all("/opt/python3" in found[name] for name in inside)
    assert "/usr/bin/python3" in found["python"]
    whole = Job((), framework="env", environment=image)
    found = asyncio.run(programs(whole, python or "python3"))
    assert set(found) == ({"python", "python3"} if python else set())
