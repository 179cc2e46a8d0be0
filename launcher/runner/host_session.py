"""One host in a run: its connection, its agent, and what it says, however often the line drops.

Journal and logs are read from where they stopped: the journal by the offset after its last record,
each log by the bytes that are here.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..fleet import cleanup
from ..records import events as ev
from ..records.reasons import EndReason
from ..records.run_folder import LogFile, RunFolder
from ..spec import errors
from ..spec.model import Facts, Host, Layout, Request
from ..transport.agent_client import Agent
from ..transport.ssh import Connection, Dialler

#: Seconds between looks whether this machine has room for logs again.
ROOM_PAUSE = 1.0
#: Seconds between tries to reach a host again.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
#: Seconds that the first try of a launcher that has just come may take, however short the patience
#: with hosts that fall silent: this one has not fallen silent, nobody has asked it yet.
FIRST_TRY = 10.0
#: Seconds between two words to a host at most, and how many of them at least fit into an orphan timeout.
WORD_PAUSE, WORDS = 5.0, 4
#: Seconds after which a stall is told where nobody has asked for that, as long as torch's own waits.
STALL = 600.0

Emit = Callable[[ev.Event], None]
Show = Callable[[str, str, bytes], None]  # host, log name, new bytes


class Link:
    """Opened once; ``keep_following`` holds on to the host until the run has ended there."""

    def __init__(
        self,
        host: Host,
        dialler: Dialler,
        folder: RunFolder,
        emit: Emit,
        show: Show,
        heard: int = -1,
    ) -> None:
        self.host = host
        self._facts: Facts | None = None
        self._connection: Connection | None = None
        self.agent = Agent.absent(host)
        self.ended = asyncio.Event()  # the supervisor is gone, and all it left has come
        self.reached = asyncio.Event()  # somebody there listens to us, or never will
        self.lost: str | None = None
        self.log_sizes: dict[str, int] | None = None  # as the host says, at the end
        self.unsaved: str = ""  # why logs that the host has are not here
        self.logs: dict[str, LogFile] = {}
        self._dialler = dialler
        self._folder = folder
        self._emit = emit
        self._show = show
        self._journal = 0
        self._heard = heard  # the number of the last record that was heard
        self._following: asyncio.Task[None] | None = None
        self._orphan_timeout: float | None = None
        self._in_touch: asyncio.Task[None] | None = None
        self._told_its_end = False
        self._rejoined = False
        self._waiting: deque[tuple[str, int, bytes]] = deque()  # pieces without room here
        self._waiting_for_room: asyncio.Task[None] | None = None
        self.supervised = False

    @property
    def name(self) -> str:
        """The host's name."""
        return self.host.name

    @property
    def facts(self) -> Facts:
        """What probing the host measured, once it was reached."""
        assert self._facts is not None, "not reached yet"
        return self._facts

    @property
    def connection(self) -> Connection:
        """The connection as it is now. Raises ConnectionLost when there has been none."""
        if self._connection is None:
            raise errors.ConnectionLost(self.name, "it was not reached")
        return self._connection

    @property
    def following(self) -> bool:
        """Whether somebody listens to the host's supervisor."""
        return self._following is not None

    async def open(self, with_gpus: bool = True) -> None:
        """Connects and measures. Raises HostError."""
        started = time.time()
        await self._dial()
        for run in await cleanup.finish(self.agent, self.name):
            self._emit(ev.OldRunEnded(time.time(), self.name, run))
        self._facts = await self.agent.probe(with_gpus)
        self._emit(
            ev.HostConnected(
                time=time.time(),
                host=self.name,
                seconds=time.time() - started,
                python_version=self.facts.python_version,
                clock_offset=self.facts.clock_offset,
                strays=self.facts.strays,
            )
        )

    async def _dial(self) -> None:
        self._connection = connection = await self._dialler.connect(self.name)
        try:
            self.agent = await Agent.open(self.host, connection)
        except BaseException:
            connection.close()
            raise
        self.agent.on_journal = self._heard_journal
        self.agent.on_log = self._heard_log
        self.agent.on_idle = self._heard_idle

    async def close(self) -> None:
        """Lets go of the host. What runs there goes on."""
        for task in (self._following, self._waiting_for_room, self._in_touch):
            if task:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        await self.agent.close()
        if self._connection:
            self._connection.close()

    # -- what the host says

    async def supervise(
        self, layout: Layout, request: Request, known: Mapping[str, Any], attempt: int
    ) -> None:
        """Makes sure that a supervisor is there, and what is ``known`` of the run. Raises HostError.

        It stops the run on its own when nobody is in touch for the request's ``orphan_timeout``, and
        reports when no rank does anything for its ``stall_timeout``. Only where that was asked for,
        Pythons there are prepared to tell their stacks.
        """
        text = f'#!/bin/sh\nexec "{self.facts.python}" "$@"\n'
        self.supervised, self._orphan_timeout = True, request.orphan_timeout
        await self.agent.ask(
            "supervise",
            run=layout.run_id,
            spec={
                "host": self.name,
                "attempt": attempt,
                "grace": request.job.grace,
                "orphan_timeout": request.orphan_timeout,
                "stall": request.stall_timeout or STALL,
                "inside": request.stall_timeout is not None,
            },
            record=known,
            programs={"python": text, "python3": text},
        )

    async def follow(self, run: str, lost_after: float) -> None:
        """Starts to listen, and goes on in the background. Raises HostError."""
        self.ended.clear()
        self._told_its_end = False
        self.log_sizes = None
        if self._following:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
        await self._ask_to_follow(run)
        self._following = asyncio.ensure_future(self._keep_following(run, lost_after))
        self._stay_in_touch()

    def _stay_in_touch(self) -> None:
        if self._in_touch is None:
            pause = (
                WORD_PAUSE
                if self._orphan_timeout is None
                else min(WORD_PAUSE, self._orphan_timeout / WORDS)
            )
            self._in_touch = asyncio.ensure_future(self._keep_in_touch(pause))

    def rejoin(self, run: str, request: Request, logs: Iterable[str]) -> None:
        """Goes on where another launcher stopped, with the logs that are here; in the background,
        as for a host that fell silent: one that cannot be reached now is tried for as long."""
        self.supervised, self._orphan_timeout = True, request.orphan_timeout
        self._rejoined = True
        self.logs = {name: self._folder.log(name) for name in logs}
        self._following = asyncio.ensure_future(
            self._keep_following(run, request.lost_after, connected=False)
        )
        self._stay_in_touch()

    def part(self, reason: str, logs: Iterable[str]) -> None:
        """A host that has left the run: nobody connects to it, and what came of it is here."""
        self.supervised, self.lost = True, reason
        self.logs = {name: self._folder.log(name) for name in logs}
        self.ended.set()
        self.reached.set()

    async def insist(self, **request: Any) -> dict[str, Any]:
        """Asks the agent for what it does once however often it is asked; again where the connection
        drops before the answer, as long as the host is not given up. Raises HostError."""
        while True:
            agent = self.agent
            try:
                return await agent.ask(**request)
            except errors.ConnectionLost:
                if not self.following or self.lost:
                    raise
                if self.agent is agent:  # nobody has noticed so far
                    self.reached.clear()
                await self.reached.wait()
                if self.lost:
                    raise

    async def catch_up(self, run: str) -> None:
        """Until all bytes of logs that the host has now are here, as far as it can be reached."""
        try:
            answer = await self.agent.ask("outputs", run=run, paths=[])
        except errors.HostError:
            return
        while not self.agent.closed.done() and not self._waiting:
            if all(self._here(name) >= size for name, size in answer["logs"].items()):
                return
            await asyncio.sleep(0.02)

    def _here(self, name: str) -> int:
        return self.logs[name].size if name in self.logs else 0

    async def _ask_to_follow(self, run: str) -> None:
        self._waiting.clear()  # it comes again
        here = {name: log.size for name, log in self.logs.items()}
        await self.agent.ask("follow", run=run, journal=self._journal, logs=here)
        self.reached.set()

    async def _keep_following(self, run: str, lost_after: float, connected: bool = True) -> None:
        while True:
            if connected:
                why = await asyncio.shield(self.agent.closed)  # cancelling us does not close it
                if self.ended.is_set():
                    return
                self._emit(ev.ConnectionDropped(time.time(), self.name, why))
            first = 0.0 if connected else FIRST_TRY
            connected = True
            dropped = time.monotonic()  # it stands still while a laptop sleeps
            if not await self._resume(run, dropped + lost_after, first):
                self.give_up(EndReason.HOST_UNREACHABLE)
                return
            self._emit(ev.ConnectionResumed(time.time(), self.name, time.monotonic() - dropped))

    async def _keep_in_touch(self, pause: float) -> None:
        while True:
            with contextlib.suppress(errors.HostError):
                await self.agent.ask("contact")  # an agent that is silent is closed by that
            await asyncio.sleep(pause)

    async def _resume(self, run: str, deadline: float, first: float) -> bool:
        pause = FIRST_PAUSE
        while time.monotonic() < deadline:
            try:
                if self._connection:
                    self._connection.abort()
                async with asyncio.timeout(max(first, deadline - time.monotonic())):
                    await self._dial()
                    self._facts = self._facts or await self.agent.probe()
                    await self._ask_to_follow(run)
                return True
            except (TimeoutError, errors.HostError):
                await asyncio.sleep(min(pause, max(0.0, deadline - time.monotonic())))
                pause = min(LONGEST_PAUSE, pause * 2)
            first = 0.0
        return False

    def give_up(self, reason: EndReason) -> None:
        """The host is lost for this run."""
        if self.lost is None and not self.ended.is_set():
            self.lost = reason
            if self._in_touch:
                self._in_touch.cancel()
            self.ended.set()
            self.reached.set()
            self._emit(ev.NodeLost(time.time(), self.name, reason))

    def _heard_journal(self, record: dict[str, Any], end: int) -> None:
        self._journal = end
        if record["event"] in ("SupervisorStarted", "HostEnded"):
            self._told_its_end = record["event"] == "HostEnded"
        if record["seq"] <= self._heard:
            return
        self._heard = record["seq"]
        event = ev.from_journal(self.name, record, self.facts.clock_offset)
        if event is not None:
            self._emit(event)

    def _heard_log(self, name: str, offset: int, data: bytes) -> bool:
        """False when there is no room here. Then the host is not told that the piece came, and
        soon sends no more: its files hold the rest."""
        if not self._waiting:
            try:
                self._save(name, offset, data)
                return True
            except errors.RecordError as error:
                self._emit(ev.LogsWaiting(time.time(), self.name, str(error)))
                self._waiting_for_room = asyncio.ensure_future(self._wait_for_room(str(error)))
        self._waiting.append((name, offset, data))
        return False

    def _save(self, name: str, offset: int, data: bytes) -> None:
        log = self.logs.get(name)
        if log is None:
            log = self.logs[name] = self._folder.log(name)
        new = log.write(offset, data)
        if new:
            self._folder.came(name, log.size)
            self._show(self.name, name, new)

    async def _wait_for_room(self, why: str) -> None:
        while self._waiting:
            over = self._told_its_end
            await asyncio.sleep(ROOM_PAUSE)
            try:
                while self._waiting:
                    self._save(*self._waiting[0])
                    self.agent.acknowledge(len(self._waiting.popleft()[2]))
            except errors.RecordError:
                if over:  # nobody waits for a run that has ended
                    self.unsaved = why
                    self._finish()
                    return
        self._emit(ev.LogsResumed(time.time(), self.name))

    def _heard_idle(self, sizes: Mapping[str, int]) -> None:
        self.log_sizes = dict(sizes)
        never_begun = self._rejoined and self._journal == 0  # its launcher did not come so far
        if not self._told_its_end and not never_begun:
            self.give_up(EndReason.SUPERVISOR_DIED)
        self._finish()

    def _finish(self) -> None:
        self.ended.set()
        self._emit(ev.HostFinished(time.time(), self.name))

    @property
    def log_bytes(self) -> tuple[int, int | None]:
        """Bytes of all logs, as ``(here, there)``; None while the host has not said how many."""
        here = sum(log.size for log in self.logs.values())
        return here, None if self.log_sizes is None else sum(self.log_sizes.values())
