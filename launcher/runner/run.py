"""One run, from its first connection to its receipt: read :meth:`Run.execute`."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..fleet.findings import preflight
from ..jobs.environments import all_of
from ..records import events as ev
from ..records import metric_files
from ..records.reasons import StopReason, WaitReason
from ..records.receipt import NotBrought, Receipt
from ..records.run_folder import RunFolder
from ..records.stored import stored_alone
from ..spec import errors
from ..spec.frozen import frozen
from ..spec.model import Layout, Request
from ..transport import agent_bundle, rates, rsync
from ..transport.ssh_lookup import SshLookup
from . import connect, shutdown
from .attempts import Attempts
from .conclusion import Conclusion
from .concurrency import beside, both, in_thread, race, together
from .context import RunContext
from .environments import Environments, with_built
from .event_log import EventLog
from .files import code_sync, local_paths, storing
from .files.checkpoints import Keeper
from .files.choice import Choice
from .files.collector import SKIPPED, Collector
from .files.run_code import RunCode
from .host_set import HostSet
from .launch import Launch
from .listeners import OnEvent, OnLog, ignore_event, ignore_log
from .notify import Notifier
from .policy import outcome, turn
from .replacement import Replacement
from .spare_setup import SpareSetup
from .stop import Stopped, StopSwitch
from .waiting.place import Place

if TYPE_CHECKING:
    from .data.run_data import RunData

#: Seconds between two looks at the clock of a run that begins later.
CLOCK = 30.0
#: Seconds after the start until a run reads what hosts may need later: the start has other work.
SOON = 1.0
#: Seconds for all hosts to answer when another launcher's run is followed; then the run continues
#: without the silent ones.
REJOIN = 10.0


@frozen
class Brought:
    """What a pull could not fetch, by host, and what else the hosts still have."""

    failed: Mapping[str, str]
    not_brought: tuple[NotBrought, ...] = ()


class Run:
    """One execution. ``on_event`` and ``on_log`` get everything as it happens; ``started`` is when
    it was started, in seconds since the epoch (default: now). ``lookup`` was asked about hosts ahead."""

    def __init__(
        self,
        request: Request,
        folder: RunFolder,
        on_event: OnEvent = ignore_event,
        on_log: OnLog = ignore_log,
        started: float | None = None,
        lookup: SshLookup | None = None,
    ) -> None:
        event_log = EventLog(folder, self._tell)
        self._on_event = on_event
        self._notifier = Notifier(folder.path, event_log.add, time.time)
        self.switch = StopSwitch(event_log.wake)
        self.stop = self.switch.press
        self.context = RunContext(request, folder, event_log, self.switch, started or time.time())
        self.hosts = HostSet(self.context, on_log, lookup)
        self._collector = Collector(self.context, self.hosts)
        self._replacement = Replacement(self.context, self.hosts, self._collector)
        self._conclusion = Conclusion(self.context, self.hosts, self._collector, self._replacement)
        self._place = Place(self.context)
        self._attempts = Attempts(
            self.context, self.hosts, self._place, self._collector, self._replacement, self._store
        )
        self._code = RunCode(self.context)
        self._data: RunData | None = None  # of a job that names data sets
        self._environments = Environments(self.context)
        self._storing = storing.of_job(folder, request.job)
        self._keeper = Keeper(self.context, self.hosts, self._collector.handover)

    def _tell(self, event: ev.Event) -> None:
        self._on_event(event)
        self._notifier.hear(event)

    @property
    def name(self) -> str:
        """The run's name."""
        return self.context.name

    @property
    def folder(self) -> RunFolder:
        """Where the run is recorded."""
        return self.context.folder

    @property
    def layout(self) -> Layout:
        """Which host runs what; without nodes until that is decided."""
        return self.hosts.layout

    @property
    def grace(self) -> float:
        """Seconds between SIGTERM and SIGKILL."""
        return self.context.grace

    @property
    def killing(self) -> bool:
        """Whether the user has asked to stop twice."""
        return self.switch.kill.is_set()

    async def execute(self) -> Receipt:
        """Run everything, from the first connection to the receipt."""
        with rates.limited(self.context.request.max_rate):
            return await self._finish(self._stages())

    async def resume(self, layout: Layout) -> Receipt:
        """Continue from where another launcher left the run, to the receipt."""
        with rates.limited(self.context.request.max_rate):
            never_begun = self.context.state.needs_its_launcher
            await self._rejoin(layout)
            if never_begun:
                return await self._finish(self._never_begun())
            asked = self.context.state.stop
            if asked and asked.why is StopReason.BY_USER and not self.switch.asked.is_set():
                self.stop()  # the previous launcher may not have passed it on to all hosts
            return await self._finish(self._follow_attempts(is_running=True))

    async def bring(self, layout: Layout) -> Brought:
        """Fetch the logs and outputs that the hosts have now, while the run continues."""
        try:
            await self._rejoin(layout)
            await asyncio.gather(*(session.catch_up() for session in self.hosts.active))
            if chosen := layout.wanted and self.context.state.chosen:
                self.hosts.settle(layout.of(chosen))
            with rates.limited(self.context.request.max_rate):
                await self._collector.pull()
                await self._collector.conclude()
            return Brought(self._collector.failed, self._collector.not_brought)
        finally:
            await self.close()

    def pull_now(self) -> None:
        """Fetch outputs now, without waiting for the next interval."""
        self._collector.hurry.set()

    def move(self, priority: int | None, first: bool) -> None:
        """Wait with another priority, or before all others of the same one."""
        self._place.move(priority, first)

    async def until_on_its_own(self) -> None:
        """Wait until the hosts carry on without a launcher. A run that has not started yet is stopped:
        nobody else could start it."""
        state = self.context.state
        begun = state.attempt > 0 or state.all_started or state.waits_on
        if not begun and not self.switch.asked.is_set():
            self.stop()
        await self.context.event_log.until(lambda: self.context.state.is_on_its_own)

    async def close(self) -> None:
        """Close all connections and files. What runs on the hosts continues."""
        await self._place.close()
        await self._place.membership.close()
        await self.hosts.close()
        self.folder.close()

    # -- the stages

    async def _finish(self, stages: Coroutine[Any, Any, None]) -> Receipt:
        """Go through stages; whatever happens, stop all processes, fetch outputs and write the
        receipt."""
        error = await self._error_of(stages)
        error = await self._error_of(self._leave_queue()) or error
        error = await self._error_of(self._end(error)) or error
        error = await self._error_of(self._collect()) or error
        error = await self._error_of(shutdown.sweep(self.context, self.hosts.touched)) or error
        error = await self._error_of(self._write_script_log()) or error
        if self.context.state.waits_on and not self.context.state.has_begun:
            await self._place.forget(self.hosts.active)
        # Where a host was lost, what runs there still counts; but nobody decides about it any more.
        is_gone = not any(session.lost for session in self.hosts.touched)
        await self._place.membership.forget(books=is_gone)
        try:
            use = await asyncio.to_thread(metric_files.uses, self.folder.path)
            final = await self._with_stored(self._conclusion.write(error, use))
            await self._notifier.finish()
            return final
        finally:
            await self.close()

    async def _error_of(self, step: Coroutine[Any, Any, None]) -> Exception | None:
        """Do a step of a run; return what went wrong. Not even a bug of ours may keep the steps that
        follow from ending processes on hosts."""
        try:
            await step
        except Stopped:
            pass
        except errors.LauncherError as failed:
            return failed
        except Exception as failed:
            self.context.event_log.note("traceback.json", traceback.format_exc().splitlines())
            return failed
        return None

    async def _stages(self) -> None:
        context = self.context
        if context.request.not_before is not None:
            await self.switch.unless_asked(self._until(context.request.not_before))
        for name, step in self._steps():
            if name != "wait":
                context.enter(name)
            await self.switch.unless_asked(step())
        await self._follow_attempts()

    def _steps(self) -> Iterator[tuple[str, Callable[[], Coroutine[Any, Any, None]]]]:
        """Yield what comes before the ranks start; what is to be done shows on the way."""
        yield "connect", self._connect
        yield "sync", self._sync
        if self.context.job.data:
            yield "data", self._give_data
        if any(one.is_given for one in all_of(self.context.job)):
            yield "environment", self._give_environment
        if not self.layout.nodes:
            yield "wait", self._wait
        yield "setup", self._setup

    async def _never_begun(self) -> None:
        raise errors.LauncherDied(begun=False)

    async def _until(self, moment: float) -> None:
        """Wait here, in no queue and with no connection, until a moment."""
        began = time.time()
        self._describe()
        self.context.add(ev.RunWaits(began, 0, 0, WaitReason.NOT_YET, latest=moment))
        for pause in _pauses(moment):
            await asyncio.sleep(pause)
        self.context.add(ev.TurnCame(time.time(), time.time() - began))

    async def _follow_attempts(self, is_running: bool = False) -> None:
        async with beside(self._collector.every(self.context.request.pull_every)):
            async with (
                beside(self._keeper.every()),
                beside(self._leave_urls()),
                beside(_read_agent()),
            ):
                await self._attempts.run(is_running)
            await self._keeper.last()

    async def _connect(self) -> None:
        """Connect to hosts, measure them, and decide which host runs what.

        Meanwhile the code is read: both take their time, and neither needs the other.
        """
        self._describe()
        context = self.context
        await together(
            (
                self._code.read(),
                self._read_data(),
                self._begin_storing(),
                asyncio.to_thread(rsync.require_here),
                self._open(),
            )
        )
        opened = [session.host for session in self.hosts.active]
        facts = {session.name: session.facts for session in self.hosts.active}
        preflight.require_machines(opened, facts)
        if context.request.check:
            preflight.require(opened, facts)
        self._describe()

    async def _read_data(self) -> None:
        if self.context.job.data:
            from .data.run_data import RunData  # many runs have none

            self._data = RunData(self.context)
            await self._data.read()

    async def _leave_urls(self) -> None:
        """Have hosts store outputs by themselves once nobody is in touch, if they are to be stored."""
        if self.context.job.output_to:
            from .files.unattended import Leaving  # few jobs name a store

            await Leaving(self.context, self.hosts).every()

    async def _begin_storing(self) -> None:
        if self._storing is not None:
            await self._storing.begin()

    async def _open(self) -> None:
        await connect.connect(self.context, self.hosts, self._place)

    async def _sync(self) -> None:
        """Give every host the run's own copy of the code; meanwhile it imports what the job preloads."""
        await both(self._preload_early(), self._code.give(self.hosts.active))

    async def _preload_early(self) -> None:
        """Begin to preload before anything is copied, where it is known by now what will run where, and
        nothing that is to be imported is installed first."""
        job = self.context.job
        installs = any([job.setup, *(role.setup for role in job.roles)])
        builds = any(one.recipe for one in all_of(job))
        if job.preload and self.layout.nodes and not installs and not builds:
            launch = self._first_launch()
            await launch.supervise(warm=True)
            await launch.preload()

    def _first_launch(self) -> Launch:
        return Launch(self.context, self.hosts.active, self.layout, self.context.state.attempt)

    async def _give_data(self) -> None:
        """Give every host the run's data sets, before it waits for GPUs."""
        if self._data:
            await self._data.give(self.hosts.active)

    async def _give_environment(self) -> None:
        """Have every host build the run's environment, before it waits for GPUs."""
        fixed = self._place.fixed  # of a run that waits, where each role has its host already
        await self._environments.give(self.hosts.active, fixed or self.layout)
        if self.layout.nodes:
            self.hosts.settle(with_built(self.layout, self.hosts.active))
            self._describe()
        elif fixed:
            self._place.fixed = with_built(fixed, self.hosts.active)

    async def _wait(self) -> None:
        """Wait for the run's turn; every host that it may use has the code by now.

        A run that may use one host alone, or needs all of its hosts, waits there, once its setup has
        run: see Attempts.
        """
        layout = await self._layout_for_hosts()
        if layout is not None:
            self._place.starts_by_itself = True
        else:
            self.context.enter("wait")
            layout = await self._place.until_turn()
        chosen = {node.host.name for node in layout.nodes}
        others = [session for session in self.hosts.active if session.name not in chosen]
        with_gpus = {node.host.name for node in layout.nodes if node.gpus}
        if others or not self._place.starts_by_itself:
            await self._place.enter(
                [one for one in self.hosts.active if one.name in with_gpus], turn.shares_of(layout)
            )
        await self._place.forget(others)
        await connect.settle(self.context, self.hosts, layout)
        self._describe()

    async def _layout_for_hosts(self) -> Layout | None:
        """Return the layout of a run that its hosts can start by themselves; None for any other. Hosts
        that may be chosen have to reach each other, or else the run begins on those that it gets.
        So do those that decide about its project, if it has one."""
        from .waiting import leaving  # few runs wait

        if (host := self._place.only_host) is not None:
            launch = Launch(self.context, [host], self._place.any_layout(), 0)
        elif (found := self._place.layout_of_hosts()) is not None:
            launch = self._launch_on(found)
        else:
            return None
        can_start = await leaving.is_possible(self.context, self._place.membership, launch)
        return launch.layout if can_start else None

    def _launch_on(self, layout: Layout) -> Launch:
        known = {session.name: session for session in self.hosts.active}
        sessions = [known[node.host.name] for node in layout.nodes]
        return Launch(self.context, sessions, layout, 0)

    async def _leave_queue(self) -> None:
        """Wait for nothing more, and leave nothing of a run that has not begun on the hosts."""
        waited = self._place.sessions
        await self._place.leave()
        if not self.layout.nodes:
            await self._place.forget(waited)

    async def _setup(self) -> None:
        """Start a supervisor on every host, then run the job's setup."""
        await self._give_data()  # a host that was away has let go of it
        await self._environments.give(self.hosts.active, self.layout)
        self.hosts.settle(with_built(self.layout, self.hosts.active))
        launch = self._first_launch()
        await launch.supervise(warm=not self._place.starts_by_itself)
        earlier, job = self.context.request.resume_from, self.context.job
        if earlier or local_paths.into_outputs(job):
            await self._hand_over(earlier or "")
        await launch.setup()
        if not self._place.starts_by_itself:  # on GPUs that nobody knows yet
            await launch.preload()

    async def _hand_over(self, earlier: str) -> None:
        """Give all hosts the outputs of the run that this one continues."""
        spare_setup = SpareSetup(self.context, self.hosts, self._collector.handover)
        nodes = {node.host.name: node for node in self.layout.nodes}
        given = await together(
            (spare_setup.give_outputs(one, nodes[one.name]) for one in self.hosts.active),
            limit=code_sync.COPIES,
        )
        self.context.add(ev.OutputsGiven(time.time(), earlier, max(given), len(given)))

    async def _rejoin(self, layout: Layout) -> None:
        """Reconnect to all hosts of a run that another launcher started, with the log bytes that are
        here already."""
        self.hosts.rejoin(layout)
        self._replacement.rejoin()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(REJOIN, self.context.request.lost_after)):
                await asyncio.gather(*(one.until_reached() for one in self.hosts.touched))

    async def _end(self, error: Exception | None) -> None:
        """Stop all processes on every reachable host."""
        why = outcome.stop_reason(
            self.context.state,
            self.layout,
            elastic_from=self.context.job.elastic,
            asked=self.switch.reason,
            error=error,
        )
        await shutdown.stop(self.context, self.hosts.touched, why)
        await shutdown.let_go(self.context, self.hosts.touched)

    async def _collect(self) -> None:
        """Fetch the outputs of all hosts, however the run ended, unless the user asks to stop twice."""
        self.context.add(ev.StageStarted(time.time(), "collect"))
        if any(session.is_supervised for session in self.hosts.active):
            await race(self._collector.pull(), self._killed())
            await self._collector.conclude()
            if self._storing is not None:
                self.context.add(ev.StageStarted(time.time(), "store"))
            await race(self._store(), self._killed())

    async def _write_script_log(self) -> None:
        if self.context.job.framework == "sbatch":
            from .files import script_log  # few jobs are batch scripts

            await script_log.write(self.context, self.layout)

    async def _store(self) -> None:
        """Write the outputs of all hosts to the job's store, if it names one."""
        if (there := self._storing) is None:
            return

        def told(host: str, done: int, total: int) -> None:
            self.context.add(ev.StoreProgressed.so_far(time.time(), host, done, total))

        there.on_stored = told
        choice = Choice.stored(self.context.job)
        sessions = [one for one in (*self.hosts.active, *self.hosts.aside) if one.is_supervised]
        for session in sessions:
            there.miss(session.name, SKIPPED)  # until it is done
        agents = {session.name: session.agent for session in sessions}
        from .files import to_store  # few jobs name a store

        found = await to_store.listed(agents, self.name, choice, there.miss)
        former = [session.name for session in self.hosts.aside]
        own = await in_thread(to_store.own, self.folder.path, found, former)
        current = [session.name for session in self.hosts.active]
        over = await in_thread(to_store.handed_over, self.folder.path, own, current, there.files)
        await there.store_all([(name, agents[name], its) for name, its in own.items()], over)

    async def _with_stored(self, final: Receipt) -> Receipt:
        """Write the manifest of what was stored, with the run's ending; return the receipt with it."""
        if self._storing is None or not self._storing.has_begun:
            return final
        try:
            self._storing.note_alone(stored_alone(self.context.events))
            await self._storing.conclude(storing.ending_of(final))
            final = replace(final, stored=self._storing.summary)
        except errors.LauncherError as error:
            final = replace(final, error=final.error or error.message)
        if final.stored and not final.stored.whole and not final.exit_code:
            final = replace(final, exit_code=outcome.OUTPUTS_MISSING)
        self.context.event_log.note("receipt.json", final.to_record())
        return final

    async def _killed(self) -> None:
        await self.switch.kill.wait()

    def _describe(self) -> None:
        self.folder.write("run.json", self.context.describe(self.layout))


async def _read_agent() -> None:
    """Read the agent, for hosts that lack it or a part of it: launcher may be upgraded during a run."""
    await asyncio.sleep(SOON)
    await in_thread(agent_bundle.agent_files)


def _pauses(moment: float) -> Iterator[float]:
    """Yield the seconds to sleep until a moment: not at once, since the machine may sleep meanwhile."""
    while (left := moment - time.time()) > 0:
        yield min(left, CLOCK)
