"""One host in a run: what was started there, whether it is reachable, and what it reports.

After a lost connection, reading continues where it stopped: in the journal after its last record, in
each log after the bytes that are here.
"""

from __future__ import annotations

import asyncio
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar

from .. import frameworks
from ..fleet import cleanup
from ..jobs.environments import images_of, needed_on, on_host, programs_folder, with_python
from ..jobs.gpus import with_foreign_held
from ..records import events as ev
from ..records.reasons import EndReason
from ..records.state import log_hosts
from ..spec import errors
from ..spec.containers import Container
from ..spec.model import Facts, Host, Job, Layout
from ..transport.agent_client import LIVE, METRICS, Agent
from ..transport.answers.queue import Turns
from ..transport.answers.reading import read
from ..transport.answers.runs import Supervised
from ..transport.connection import Connection
from ..transport.ssh import Dialler
from .concurrency import cancel
from .context import RunContext
from .listeners import OnLog
from .policy import environments
from .policy.restart import may_follow, preloaded
from .session.belongings import Belongings
from .session.connection import HostConnection
from .session.journal_cursor import JournalCursor
from .session.keep_alive import KeepAlive
from .session.log_intake import LogIntake

T = TypeVar("T")
#: Seconds for a launcher's first attempt to reach a host of a run that it did not start, even when
#: ``lost_after`` is shorter: such a host has not fallen silent.
FIRST_TRY = 10.0
#: Seconds for an answer about the queue, beyond those that it may wait.
ANSWERS = 30.0
#: Seconds for which a host is dialled in one go.
REDIAL = 3600.0
#: Default of ``stall_timeout`` in seconds: torch's own timeout of collectives.
STALL = 600.0


class Phase(Enum):
    """How far the run has come on one host."""

    IDLE = "nothing was started there"
    SUPERVISED = "a supervisor was started, and is not followed yet"
    FOLLOWED = "its supervisor is followed, or reconnected to"
    FINISHED = "its supervisor has exited, and all its records and logs are here"
    LOST = "the run has given it up"


class HostSession:
    """A host that is opened once; ``follow`` follows it until the run is over there, or it is lost."""

    def __init__(self, host: Host, dialler: Dialler, context: RunContext, on_log: OnLog) -> None:
        (self.host,) = with_python([host], context.job)
        self.phase = Phase.IDLE
        self.lost: str | None = None  # why the host was given up
        self.starts_by_itself = False  # the run waits there: the host is waited for, however long
        self.built_python = ""  # of an environment that it has built for the run
        self.pythons: dict[str, str] = {}  # of a job with several environments: those that it has
        self.python_versions: dict[str, str] = {}  # by the path of a Python
        self.no_python: dict[str, errors.HostError] = {}  # and why it has not the others
        #: The images of the run, and how they start there; by the key of their environment.
        self.containers: dict[str, Container] = {}
        self.has_died = False  # its supervisor, while the run waited there, or may have given way
        self.supervisions = 0  # how often a supervisor was made sure of
        self._supervised: tuple[int, Mapping[str, Any]] | None = None  # an attempt, and its record
        self.was_asked_to_preload = False  # since then
        self.keeps_warm: int | None = None  # the attempt whose imports it keeps for the next one
        self._context = context
        self._line = HostConnection(self.host, dialler, self._listen)
        self._journal = JournalCursor(context.event_log.heard(host.name))
        self._belongings = Belongings(
            host.name, context.job, may_return=context.request.preemptible
        )
        self._logs = LogIntake(self._line, self._journal, context, on_log, self._finish)
        self._contact = KeepAlive(self._line, self._hear_silence)
        self._log_sizes: Mapping[str, int] | None = None  # as the host reports them at the end
        self._settled = asyncio.Event()  # the host answers, or was given up
        self._following: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The host's name."""
        return self.host.name

    @property
    def agent(self) -> Agent:
        """The current agent; of a host that was never reached, one that refuses every request."""
        return self._line.agent

    @property
    def facts(self) -> Facts:
        """What probing the host measured, once it was reached. GPUs in use outside launcher count as
        held, unless the run ignores that."""
        found = replace(
            self._line.facts, pythons=dict(self.pythons), containers=dict(self.containers)
        )
        if self.built_python:
            found = replace(found, python=self.built_python)
        if self.containers and not self._context.job.has_several_environments:
            (its,) = self.containers.values()
            found = replace(
                found, python=its.python or "python3", python_version=its.python_version
            )
        return found if self._context.request.ignore_foreign else with_foreign_held(found)

    @property
    def lacks(self) -> tuple[str, Sequence[str]]:
        """Paths that the job needs and the host does not have, behind the key of the job that names
        them: its data sets, or else its ``needs``."""
        job, lacking = self._context.job, self._line.facts.no_paths
        missing = [path for path in job.paths_needed if path in lacking]
        sets = [path for path in missing if path not in job.needs]
        return ("data", sets) if sets else ("needs", missing)

    @property
    def connection(self) -> Connection:
        """The current connection. Raises ConnectionLost when there never was one."""
        return self._line.ssh

    @property
    def is_supervised(self) -> bool:
        """Whether a supervisor of the run was started there."""
        return self.phase is not Phase.IDLE

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be expected of the host."""
        return self.phase in (Phase.FINISHED, Phase.LOST)

    @property
    def is_in_reach(self) -> bool:
        """Whether the host answers, as far as is known, and the run is not over there."""
        return self._settled.is_set() and not self.agent.closed.done() and not self.is_over

    @property
    def unsaved(self) -> str:
        """Why logs that the host has are not here; empty when they are here."""
        return self._logs.unsaved

    @property
    def log_bytes(self) -> tuple[int, int | None]:
        """Bytes of all logs, ``(here, there)``; None until the host has reported how many."""
        there = None if self._log_sizes is None else _of_logs(self._log_sizes)
        return _of_logs(self._logs.sizes), there

    # -- beginning

    async def open(self, with_gpus: bool = True) -> None:
        """Connect, clean up leftovers of earlier runs, and probe the host. Raises HostError."""
        started = time.time()
        await self._dial()
        for run in await cleanup.finish(self.agent, self.name):
            self._context.add(ev.OldRunEnded(time.time(), self.name, run))
        facts = await self._line.probe(with_gpus, self._context.job.paths_needed)
        self._context.add(
            ev.HostConnected(
                time=time.time(),
                host=self.name,
                seconds=time.time() - started,
                python_version=facts.python_version,
                clock_offset=facts.clock_offset,
                strays=facts.strays,
                user=facts.user,
            )
        )

        await self._find_pythons()

    async def _dial(self) -> None:
        try:
            await self._line.dial()
        except errors.HostError as error:
            job = self._context.job
            wanted = None if job.has_several_environments else on_host(job, self.host)
            if wanted and wanted.python:
                raise environments.missing(self.host, wanted, error) from None
            raise

    async def _find_pythons(self) -> None:
        """Find out which of several environments of the job the host has. Raises HostError."""
        named = {one.key: one for one in needed_on(self._context.job, self.host) if one.python}
        if not named:
            return
        for key, found in (await self.agent.pythons(list(named))).items():
            if isinstance(found, errors.HostError):
                self.no_python[key] = environments.missing(self.host, named[key], found)
            else:
                self.pythons[key], self.python_versions[found[0]] = found

    async def look_again(self) -> None:
        """Measure the host again: its GPUs may have been taken. Raises HostError."""
        await self._line.probe(True, self._context.job.paths_needed)

    async def supervise(
        self,
        layout: Layout,
        attempt: int,
        record: Mapping[str, Any],
        warm: Mapping[str, Any] | None = None,
    ) -> bool:
        """Make sure that a supervisor runs, which also keeps ``record``, the contents of ``run.json``.
        Return whether it is that of the attempt before. Raises HostError.

        ``warm`` is what it will be asked to import: what an earlier run has left may be used for that.

        It stops the run on its own when no launcher contacts it for the request's ``orphan_timeout``
        seconds, and reports when no rank makes progress for its ``stall_timeout``. Only if the user
        set one, Python processes there are prepared to write their stacks.
        """
        pythons = {node.host.name: node.python for node in layout.nodes}
        there = {node.host.name: node.containers for node in layout.nodes}.get(self.name, {})
        python = pythons.get(self.name, self.facts.python)
        programs = _programs(self._context.job, python, there)
        request = self._context.request
        self.phase = Phase.SUPERVISED
        self._belongings.place(attempt, layout, log_hosts(self._context.events))
        again: dict[str, Any] = {"next": 1} if attempt > 0 and self._context.job.preload else {}
        if warm is not None:
            again["warm"] = warm
        answer = await self.agent.answer(
            Supervised,
            "supervise",
            run=layout.run_id,
            spec={
                "host": self.name,
                "attempt": attempt,
                "grace": request.job.grace,
                "orphan_timeout": request.orphan_timeout,
                "stall": request.stall_timeout or STALL,
                "inside": request.stall_timeout is not None,
                "own_hosts": self.facts.has_own_hosts,
                "keep": request.job.keep_warm if request.job.preload else None,
            },
            record={**record, "attempt": attempt},
            programs=programs,
            **again,
        )
        self.supervisions += 1
        self._supervised = attempt, record
        self.was_asked_to_preload = False
        return bool(answer.stayed)

    def has_supervisor(self, attempt: int, record: Mapping[str, Any]) -> bool:
        """Return whether a supervisor of this attempt is followed that has kept this very record, as far
        as is known: then nothing has to be made sure of."""
        is_followed = self.phase is Phase.FOLLOWED and not self.has_died and self.is_in_reach
        return is_followed and self._supervised == (attempt, record)

    async def follow(self, lost_after: float) -> None:
        """Follow the supervisor, in the background once it has answered.

        A host that is unreachable for ``lost_after`` seconds is given up. Raises HostError.
        """
        await cancel(self._following)
        self.phase = Phase.FOLLOWED
        self._journal.has_end = self.has_died = False
        self._log_sizes = None
        try:
            await self._ask_to_follow()
        except BaseException:
            if not self.is_over:
                self.phase = Phase.SUPERVISED
            raise
        self._following = asyncio.ensure_future(self._keep_following(lost_after))
        self._contact.start(self._context.request.orphan_timeout)

    def rejoin(self, logs: Iterable[str], layout: Layout | None = None) -> None:
        """Resume from another launcher's position, in the background, with the logs that are here.

        An unreachable host is retried for ``lost_after``.
        """
        request = self._context.request
        self.phase = Phase.FOLLOWED
        self._belongings.rejoin(
            layout or Layout(self._context.name, ()),
            *self._context.begun_attempts,
            log_hosts(self._context.events),
        )
        self._journal.may_be_empty = True
        state = self._context.state
        self.starts_by_itself = self.name in state.left_to and not state.has_begun_on(self.name)
        if self.name in preloaded(self._context.events, state.attempt):
            follows = may_follow(request, self._context.events)
            self.keeps_warm = state.attempt if follows else None
        self._logs.resume(logs)
        self._following = asyncio.ensure_future(
            self._keep_following(request.lost_after, connected=False)
        )
        self._contact.start(request.orphan_timeout)

    def reconnect(self) -> None:
        """Follow a host again whose connection was lost while its supervisor was started."""
        self.phase, self.has_died = Phase.FOLLOWED, False
        lost_after = self._context.request.lost_after
        self._following = asyncio.ensure_future(self._keep_following(lost_after, connected=False))

    def part(self, reason: str, logs: Iterable[str]) -> None:
        """Stand for a host that has left the run: it is not connected to, and its logs are here."""
        self._logs.resume(logs)
        self._lose(reason)

    # -- in the queue

    async def turn(self, ticket: Mapping[str, Any] | None, wait: float) -> Turns:
        """Hold a ticket on the host, or none. Return how things stand there once that has changed, or
        after ``wait`` seconds; without ``wait`` at once. Raises HostError."""
        return await self.agent.answer(
            Turns, "turn", patience=wait + ANSWERS, run=self._context.name, ticket=ticket, wait=wait
        )

    async def until_back(self) -> None:
        """Wait until the host answers again, however long that takes."""

        async def greet() -> None:
            await self._line.probe(needs=self._context.job.paths_needed)

        while self.phase is Phase.IDLE:
            if await self._line.redial(greet, time.monotonic() + REDIAL):
                return
        if self.agent.closed.done():  # its follower dials
            self._settled.clear()
            await self._settled.wait()

    # -- while it is followed

    async def until_reached(self) -> None:
        """Wait until the host has answered, or was given up."""
        await self._settled.wait()

    async def insist(self, **request: Any) -> dict[str, Any]:
        """Send an idempotent request, again after a lost connection, until the host is given up.

        Raises HostError.
        """
        while True:
            agent = self.agent
            try:
                return await agent.ask(**request)
            except errors.ConnectionLost:
                if self.phase is not Phase.FOLLOWED:
                    raise
                if self.agent is agent:  # the follower has not noticed yet
                    self._settled.clear()
                await self._settled.wait()
                if self.lost is not None:
                    raise

    async def insist_on(self, kind: type[T], op: str, **request: Any) -> T:
        """Do the same; return the answer as a ``kind``."""
        return read(kind, self.name, op, await self.insist(op=op, **request))

    async def catch_up(self) -> None:
        """Wait until all log bytes that the host has now are here, or it cannot be reached."""
        try:
            listed, _ = await self.agent.outputs(self._context.name, [])
        except errors.HostError:
            return
        while not self.agent.closed.done() and not self._logs.is_waiting:
            if self._logs.has(listed.logs):
                return
            await asyncio.sleep(0.02)

    def give_up(self, reason: EndReason) -> None:
        """Count the host as lost, unless the run is over there."""
        if not self.is_over:
            self._lose(reason)
            self._context.add(ev.NodeLost(time.time(), self.name, reason))

    def settle(self) -> None:
        """Count the run as over on a host whose supervisor has died. The host is lost, unless the run
        only waited there."""
        if self._is_waited_for:
            self.forgo()
        else:
            self.give_up(EndReason.SUPERVISOR_DIED)

    def forgo(self) -> None:
        """Count the run as over on a host whose supervisor has died, and which is not lost by that."""
        self.has_died = False
        self._finish()

    async def close(self) -> None:
        """Close the connection. What runs on the host continues."""
        await cancel(self._following)
        await self._logs.close()
        await self._contact.close()
        await self._line.close()

    # -- what the host reports

    def _listen(self, agent: Agent) -> None:
        agent.on_journal = self._hear_journal
        agent.on_log = self._hear_log
        agent.on_idle = self._hear_idle
        agent.on_fault = self._hear_fault

    async def _ask_to_follow(self) -> None:
        self._logs.forget_waiting()
        job = self._context.job
        kept = [pattern for pattern in job.keep_on_host if pattern != "*"]  # as pull: false has it
        await self.agent.ask(
            "follow",
            run=self._context.name,
            journal=self._journal.offset,
            logs=self._logs.sizes,
            live={"paths": list(job.output_paths), "kept": kept},
        )
        self._settled.set()

    async def _keep_following(self, lost_after: float, connected: bool = True) -> None:
        first = 0.0 if connected else FIRST_TRY
        while True:
            if connected:
                why = await asyncio.shield(self.agent.closed)  # cancelling this must not close it
                if self.is_over:
                    return
                self._context.add(ev.ConnectionDropped(time.time(), self.name, why))
            connected = True
            dropped = time.monotonic()  # it stands still while a laptop sleeps
            deadline = dropped + lost_after
            while not await self._line.redial(self._ask_to_follow, deadline, first):
                if not self._is_waited_for:
                    if self._line.refusal:
                        self._complain(self._line.refusal)
                    self.give_up(EndReason.HOST_UNREACHABLE)
                    return
                deadline = time.monotonic() + max(lost_after, FIRST_TRY)
            first = 0.0
            seconds = time.monotonic() - dropped
            self._context.add(ev.ConnectionResumed(time.time(), self.name, seconds))

    def _hear_journal(self, record: dict[str, Any], end: int) -> None:
        event = self._journal.take(self.name, record, end, self.facts.clock_offset)
        if event is None:
            return
        if isinstance(event, ev.RecordPassedOver):
            self._context.add(event)
            raise errors.BadAnswer(self.name, event.problem)
        if wrong := self._belongings.wrong_event(event):
            raise errors.BadAnswer(self.name, wrong)
        if isinstance(event, ev.BegunThere):  # one that has only chosen others waits on
            self.starts_by_itself = bool(event.hosts) and self.name not in event.hosts
        elif isinstance(event, ev.WaitsAgain):
            self.starts_by_itself = True
        self._context.add(event)

    def _hear_log(self, name: str, offset: int, data: bytes) -> bool:
        if wrong := self._belongings.wrong_log(name):
            raise errors.BadAnswer(self.name, wrong)
        return self._logs.take(name, offset, data)

    def _hear_fault(self, error: errors.BadAnswer) -> None:
        """Give up a host that sends what no agent sends: nobody else may suffer from it."""
        if self.is_over or self.phase is Phase.IDLE:
            return  # whoever asks it next is told
        self._complain(error)
        self.give_up(EndReason.BAD_ANSWER)

    def _complain(self, error: errors.HostError) -> None:
        now = time.time()
        self._context.add(ev.HostFailed(now, self.name, error.code, error.message, error.hint))

    def _hear_silence(self, seconds: float) -> None:
        """Give up a host whose supervisor stands still, as one that does not answer."""
        if seconds > self._context.request.lost_after and not self._is_waited_for:
            self.give_up(EndReason.SUPERVISOR_SILENT)

    @property
    def _is_waited_for(self) -> bool:
        """Whether the run waits there, as far as any of its hosts has said."""
        state = self._context.state
        is_back = state.returned and self.name in state.left_to and self.name not in state.begun_on
        return self.starts_by_itself or bool(is_back)

    @property
    def _may_give_way(self) -> bool:
        """Whether the run may give its GPUs back, which the other hosts know: see Attempts."""
        state, may = self._context.state, self._context.request.preemptible
        return may and (state.all_started or self.name in state.begun_on)

    def _hear_idle(self, sizes: Mapping[str, int]) -> None:
        self._log_sizes = sizes
        is_waited_for = self._is_waited_for and not self._journal.has_end
        if is_waited_for or (self._may_give_way and not self._journal.is_complete):
            self.has_died = True
            self._context.event_log.wake()
            return
        if not self._journal.is_complete:
            self.give_up(EndReason.SUPERVISOR_DIED)
        self._finish()

    def _finish(self) -> None:
        if self.phase is not Phase.LOST:
            self.phase = Phase.FINISHED
        self._context.add(ev.HostFinished(time.time(), self.name))

    def _lose(self, reason: str) -> None:
        self.phase, self.lost = Phase.LOST, reason
        self._contact.stop()
        self._settled.set()


def _of_logs(sizes: Mapping[str, int]) -> int:
    """Return the bytes of what programs have printed."""
    return sum(
        size for name, size in sizes.items() if name != METRICS and not name.startswith(LIVE)
    )


def _programs(job: Job, python: str, there: Mapping[str, Container]) -> dict[str, str]:
    """Return what is first in PATH, so that ``python`` is this one, and in images that of each. One
    without Python gets none: what is called so there would start itself."""
    programs = _pythons(python)
    programs |= frameworks.get(job.framework).programs
    for one in images_of(job):
        if its := there.get(one.key):
            folder = programs_folder(job, one)
            if not folder:
                programs = {}
            if its.python:
                programs |= _pythons(its.python, f"{folder}/" if folder else "")
    return programs


def _pythons(python: str, folder: str = "") -> dict[str, str]:
    """Return the programs by which ``python`` in a run is this one."""
    text = f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n'
    return {f"{folder}python": text, f"{folder}python3": text}
