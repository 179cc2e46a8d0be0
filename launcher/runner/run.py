"""One run, from its first connection to its receipt: read :meth:`Run.execute`."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Collection, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from ..fleet import cleanup
from ..fleet.findings import preflight
from ..records import codec, postmortem, receipt
from ..records import events as ev
from ..records.reasons import EndReason, Reason, StopReason
from ..records.receipt import Receipt
from ..records.run_folder import RunFolder
from ..records.state import log_hosts
from ..spec import errors
from ..spec.model import Host, Layout, Request
from ..transport import rsync
from ..transport.ssh import Dialler
from . import connect, launch, shutdown, stall_watch
from .concurrency import together
from .event_log import Ledger, StopSwitch
from .files import code_snapshot, code_sync
from .host_session import Link
from .policy import elastic, outcome
from .policy.restart import may_replace_ports
from .replacement import Reserve

#: Copies of the code at once: each is an rsync here.
COPIES = 8

#: Seconds for all hosts of a run to answer when it is taken up again; then it goes on without.
REJOIN = 10.0


OnEvent = Callable[[ev.Event], None]
OnLog = Callable[[str, str, bytes], None]
Step = Coroutine[Any, Any, None]
T = TypeVar("T")


class Stopped(Exception):
    """The user wants the run to end, and the step under way was broken off."""


class Run:
    """One execution. ``on_event`` and ``on_log`` are told everything, as it happens."""

    def __init__(
        self,
        request: Request,
        folder: RunFolder,
        on_event: OnEvent = lambda event: None,
        on_log: OnLog = lambda host, name, data: None,
    ) -> None:
        self.request, self.job, self.folder = request, request.job, folder
        self.name = folder.name
        self.ledger = Ledger(folder, on_event)
        self.switch = StopSwitch(self.ledger.wake)
        self.stop = self.switch.press
        self.links: list[Link] = []
        self.layout = Layout(self.name, ())
        self.attempt = self.ledger.state.attempt
        self.started = time.time()
        self._ports: Mapping[str, Collection[int]] = {}
        self._reserve = Reserve(request, self.ledger, self.switch, self.links, self._link)
        self._collector = self._reserve.collector
        self._dialler = Dialler(request.inventory, request.ask_passphrase)
        self._on_log = on_log

    async def execute(self) -> Receipt:
        """All of it, in order, from the beginning."""
        return await self._to_the_end(
            ("connect", self.connect),
            ("sync", self.sync),
            ("setup", self.setup),
            ("start", self.start),
            ("run", self.follow),
        )

    async def go_on(self, layout: Layout, started: float) -> Receipt:
        """From where another launcher left it, to the end."""
        self.layout, self.started = layout, started
        await self.rejoin()
        asked = self.ledger.state.stop
        if asked and asked.why is StopReason.BY_USER and not self.switch.asked.is_set():
            self.stop()  # the hosts may not have heard it from the one before us
        return await self._to_the_end(("run", self.follow))

    async def bring(self, layout: Layout, started: float) -> dict[str, str]:
        """What the hosts have now, logs and outputs; the run goes on as it is. Returns what could
        not be brought, by host."""
        self.layout, self.started = layout, started
        await self.rejoin()
        await asyncio.gather(*(link.catch_up(self.name) for link in self.links))
        await self._collector.pull()
        await self.close()
        return self._collector.failed

    def pull_now(self) -> None:
        """Brings outputs back at once, without waiting for their time."""
        self._collector.hurry.set()

    async def _to_the_end(self, *stages: tuple[str, Callable[[], Step]]) -> Receipt:
        """Whatever happens, processes are ended, outputs come back, and the receipt says how it
        went."""
        error: Exception | None = None
        try:
            for name, step in stages:
                await self._stage(name, step())
        except Stopped:
            pass
        except errors.LauncherError as failed:
            error = failed
        except Exception as failed:  # a bug of ours must not leave processes on hosts
            error = failed
            self.ledger.note("traceback.json", traceback.format_exc().splitlines())
        await self.end(error)
        await self.collect()
        await self.sweep()
        final = self.conclude(error)
        await self.close()
        return final

    @property
    def grace(self) -> float:
        """Seconds between asking to end and killing; a wish in the folder wins over the job's."""
        wish = self.folder.read("stop.json")
        return float(wish["grace"]) if wish else self.job.grace

    @property
    def killing(self) -> bool:
        """Whether the user has asked twice."""
        return self.switch.kill.is_set()

    # -- the steps

    async def connect(self) -> None:
        """Hosts, facts, and who does what."""
        self.folder.write("run.json", codec.describe_run(self.request, self.layout, self.started))
        rsync.require_here()
        self.layout = await connect.connect(
            self.job, self.request.hosts, self._link, self.name, self.links, self.ledger.add
        )
        if self.request.check:
            preflight.require(
                [link.host for link in self.links], {x.name: x.facts for x in self.links}
            )
        self.folder.write("run.json", codec.describe_run(self.request, self.layout, self.started))

    async def rejoin(self) -> None:
        """All hosts of the run, with the bytes of their logs that are here already."""
        logs, hosts = self.folder.log_names(), log_hosts(self.ledger.events)
        for node in self.layout.nodes:
            link = self._link(node.host)
            self.links.append(link)
            own = [log for log in logs if hosts.get(log.partition(".")[0]) == link.name]
            link.rejoin(self.name, self.request, own)
        self._reserve.rejoin(self.layout)
        reached = [asyncio.ensure_future(link.reached.wait()) for link in self._all_links]
        await asyncio.wait(reached, timeout=min(REJOIN, self.request.lost_after))
        for task in reached:
            task.cancel()

    async def sync(self) -> None:
        """The run's own copy of the code on every host."""
        if other := self.request.code_of:
            add = self.ledger.add
            await together(
                code_sync.give_code_of(link, other, self.name, add) for link in self.links
            )
            return
        folder = Path(self.job.workdir)
        code = await asyncio.to_thread(code_snapshot.read, folder, self.job.outputs)
        code_snapshot.require(code, self.job.script)
        revision = await asyncio.to_thread(code_snapshot.revision, folder)
        self.folder.write("code.json", code_snapshot.describe_code(code, revision))
        if revision.diff:
            self.folder.write_bytes("code.diff", revision.diff)
        await together(
            (
                code_sync.give_code(link, code, self.name, self.job.outputs, self.ledger.add)
                for link in self.links
            ),
            limit=COPIES,
        )

    async def setup(self) -> None:
        """A supervisor on every host; then the job's own preparation."""
        await launch.supervise(self.links, self.layout, self.request, self.started)
        await launch.setup(self.links, self.layout, self.job, self.ledger)

    async def start(self) -> None:
        """Where the hosts meet; then all processes. Again where a port was taken in between, when
        some of them ran already."""
        try:
            plan = await launch.meet_and_start(
                self.links, self.layout, self.request, self.attempt, self.ledger
            )
        except errors.PortTaken:
            again = Reason(EndReason.PORT_TAKEN)
            if not may_replace_ports(self.ledger.events) or not await self._start_again(again):
                raise
            return
        self.ledger.note("plan.json", codec.describe_plan(plan))
        self._ports = plan.ports
        self.ledger.add(ev.AllStarted(time.time(), self.attempt))

    async def follow(self) -> None:
        """Until all have ended, one has failed, a host is lost or has stopped by itself, or the user
        has had enough. Raises Stalled where that is an end."""
        if not self.ledger.state.all_started:
            raise errors.LauncherDied()
        pulling = asyncio.ensure_future(self._collector.every(self.request.pull_every))
        watching = asyncio.ensure_future(
            stall_watch.watch(
                self.links, self.name, self.ledger, self._collector, self.request.stop_stalled
            )
        )
        watching.add_done_callback(lambda _: self.ledger.wake())

        def is_over() -> bool:
            return self._is_over() or watching.done()

        try:
            await self.ledger.until(is_over)
            while (
                why := await self._reserve.why_again(self.layout, self._ports)
            ) and await self._start_again(why):
                await self.ledger.until(is_over)
            if watching.done():
                watching.result()
        finally:
            for task in (pulling, watching):
                task.cancel()
            await asyncio.gather(pulling, watching, return_exceptions=True)

    async def end(self, error: Exception | None = None) -> None:
        """Stop all processes on every host that can be reached."""
        why = outcome.stop_reason(
            self.ledger.state,
            self.layout,
            elastic_from=self.job.elastic,
            asked=self.switch.reason,
            error=error,
        )
        await shutdown.stop(self._all_links, self.name, self.grace, why, self.ledger, self.switch)

    async def collect(self) -> None:
        """Outputs of all hosts, whatever the ending; given up when the user asks twice."""
        self.ledger.add(ev.StageStarted(time.time(), "collect"))
        if any(link.supervised for link in self.links):
            pulling = asyncio.ensure_future(self._collector.pull())
            killed = asyncio.ensure_future(self.switch.kill.wait())
            await asyncio.wait({pulling, killed}, return_when=asyncio.FIRST_COMPLETED)
            for task in (pulling, killed):
                task.cancel()
            await asyncio.gather(pulling, killed, return_exceptions=True)

    async def sweep(self) -> None:
        """A last look at every process of every host."""
        await shutdown.sweep(self._all_links, self.name, self.ledger)

    def conclude(self, error: Exception | None) -> Receipt:
        """The receipt, on disk as well."""
        words = self.ledger.last_words()
        ended = outcome.decide(
            self.ledger.state,
            self.layout,
            elastic_from=self.job.elastic,
            asked=self.switch.reason,
            error=error,
            last_words=words,
            mending=self._reserve.mending,
        )
        reason = str(ended.reason)
        self.ledger.add(ev.RunEnded(time.time(), ended.status, reason, ended.host))
        final = Receipt(
            run=self.name,
            status=ended.status,
            reason=reason,
            reason_host=ended.host,
            reason_detail="" if ended.reason.detail in reason else ended.reason.detail,
            exit_code=ended.exit_code,
            started=self.started,
            seconds=round(time.time() - self.started, 3),
            stages=receipt.stage_seconds(self.ledger.events),
            world_size=self.layout.world_size,
            framework=self.job.framework,
            hosts=tuple(self._host_receipt(link) for link in self._all_links),
            failure=receipt.first_failure(self.ledger.state, words, self.job.framework),
            others=postmortem.other_ends(self.ledger.state),
            others_said=postmortem.last_lines(self.ledger.words_of_others()),
            error=errors.in_words(error),
            hint=getattr(error, "hint", "") or receipt.HINTS.get(reason, ""),
            outputs=tuple(vars(output) for output in self._collector.outputs),
            outputs_failed=self._collector.failed,
            folder=str(self.folder.path),
        )
        self.ledger.note("receipt.json", final.to_json())
        with suppress(OSError):  # a full disk
            cleanup.remember(self.name, [host.host for host in final.hosts if host.left is None])
        lacking = self.ledger.lacking
        return (
            final if error or not lacking else replace(final, error=str(lacking), hint=lacking.hint)
        )

    async def close(self) -> None:
        """Lets go of everything."""
        await asyncio.gather(*(link.close() for link in self._all_links))
        await self._dialler.close()
        self.folder.close()

    # -- what the steps share

    async def _stage(self, name: str, step: Step) -> None:
        """Does a step, and breaks it off when the user asks for the end; ``follow`` sees to that
        itself. Raises Stopped."""
        if self.switch.asked.is_set():
            step.close()
            raise Stopped
        self.ledger.add(ev.StageStarted(time.time(), name))
        await (step if name == "run" else self._unless_asked(step))

    async def _unless_asked(self, step: Coroutine[Any, Any, T]) -> T:
        working = asyncio.ensure_future(step)
        asked = asyncio.ensure_future(self.switch.asked.wait())
        try:
            await asyncio.wait({working, asked}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Stopped
            return working.result()
        finally:
            for task in (working, asked):
                task.cancel()
            await asyncio.gather(working, asked, return_exceptions=True)

    @property
    def _all_links(self) -> list[Link]:
        """Also of hosts that are not in the layout any more, or were not taken into it."""
        return [*self.links, *(link for link in self._reserve.aside if link.supervised)]

    def _link(self, host: Host) -> Link:
        heard = self.ledger.heard(host.name)
        return Link(host, self._dialler, self.folder, self.ledger.add, self._on_log, heard)

    def _is_over(self) -> bool:
        return (
            self.switch.asked.is_set()
            or self.ledger.has_failed()
            or bool(self.ledger.state.expired)
            or self.ledger.state.primary_ended is not None
            or self._cannot_go_on()
            or all(link.ended.is_set() for link in self.links)
        )

    def _cannot_go_on(self) -> bool:
        if self.job.elastic:
            return elastic.is_over(self.ledger.state, self.layout, self.job.elastic)
        return any(node.host.name in self.ledger.state.lost for node in self.layout.nodes)

    def _host_receipt(self, link: Link) -> receipt.HostReceipt:
        return receipt.host_receipt(
            link.name,
            self.layout,
            self.ledger.state,
            self.ledger.events,
            link.log_bytes if link.supervised else None,
            problem=link.lost or self._reserve.problem(link),
            unsaved=link.unsaved,
        )

    async def _start_again(self, why: Reason) -> bool:
        """Ends what was started, and starts it anew: without hosts that are lost, on another port,
        as the next attempt. False when too few hosts are left."""
        again = StopReason.RESTARTING
        await shutdown.stop(
            self.links, self.name, self.grace, again, self.ledger, self.switch, str(why)
        )
        filling = self._reserve.fill(self.layout, self.ledger.state.attempt + 1, self.started)
        filled = await self._unless_asked(filling)
        if filled is None:
            return False
        self.layout, self.attempt = filled
        self.ledger.add(ev.RunRestarted(time.time(), self.attempt, str(why)))
        await launch.supervise(self.links, self.layout, self.request, self.started, self.attempt)
        await self.start()
        return True
