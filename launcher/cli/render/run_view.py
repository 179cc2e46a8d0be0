"""The live screen of a run: merged log lines on stdout, launcher's own messages on stderr.

Quiet when all is well: a line for what was decided, a moving line for what takes longer than a
second, then the user's own output.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import singledispatchmethod
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import click

from ...records import events as ev
from ...spec import nodeset
from ...spec.errors import HostError, InputError
from ...spec.gpus import fold
from . import log_lines
from .columns import terminal_width, width_of
from .event_lines import OfManyHosts, failure_of, line_of, lines_of_many, process_name
from .folding import fold_errors, groups
from .hold import Hold
from .log_view import LogView, Shown
from .moving_line import MovingLine
from .progress import Reading, Transfer, quiet_line
from .tables import counted, cut, duration, fold_tasks, took, wrapped

if TYPE_CHECKING:
    from ...records.receipt import Receipt
    from ...spec.model import Layout, Node

#: Seconds that a line waits for equal lines of other ranks.
FOLD_WINDOW = 0.12
#: Seconds that a stage may take before the moving line appears, and between its steps.
STILL, STEP = 1.0, 0.2
#: Seconds without output after which a run shows that it is running.
QUIET = 5.0

_DOING = {
    "connect": "connecting",
    "sync": "copying code",
    "wait": "waiting for GPUs",
    "setup": "running setup",
    "start": "starting",
    "restart": "restarting",
    "collect": "bringing outputs back",
    "store": "storing outputs",
}


#: The same for what is no stage of a run.
_DOING_ELSE = {
    "push": "copying",
    "data": "bringing data",
    "verify": "checking data",
    "environment": "bringing the image",
}


class Watched(Protocol):
    """What a screen needs to know about a run."""

    @property
    def name(self) -> str: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def started(self) -> float: ...
    @property
    def grace(self) -> float: ...
    @property
    def killing(self) -> bool: ...


class Screen:
    """Shows events and logs. Use it with ``async with`` while the run lasts."""

    def __init__(
        self,
        ranks: frozenset[int] | None = None,
        raw: bool = False,
        logs_to_stderr: bool = False,
        hold: tuple[float, float] = (FOLD_WINDOW, FOLD_WINDOW),
        grep: re.Pattern[bytes] | None = None,
        timestamps: bool = False,
    ) -> None:
        self._line, self._held = MovingLine(), Hold(*hold, self._show_held)
        shown = Shown(ranks, raw, grep, timestamps)
        self._logs = LogView(shown, logs_to_stderr, self._line, self._held)
        self._errors: list[HostError] = []
        self._of_many: list[OfManyHosts] = []
        self._stage, self._since = "", time.monotonic()
        self._transfer = Transfer(self._since)
        self._reading: Reading | None = None
        self._building = ""  # what an image is built on, while it is
        self.has_keys = True  # what the user types is for launcher
        self._question: str | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._run: Watched | None = None
        self._muted = self._is_stalled = self._is_waiting = self._has_moved = False

    @property
    def columns(self) -> int | None:
        """The columns of the terminal that shows logs; None without one."""
        return self._logs.columns

    def widen(self, hosts: Iterable[str]) -> None:
        """Make room for labels with these host names."""
        self._logs.widen(hosts)

    def fit(self, layout: Layout) -> None:
        """Learn the processes of a run, and make room for their labels."""
        self._logs.fit(layout)

    def begin(self, run: Watched) -> None:
        """Show which run this is."""
        self._run = run
        self.go_live()
        self._say(f"run {click.style(run.name, bold=True)}")

    def go_live(self) -> None:
        """Show bars of ranks as they move, if there is a terminal to move on."""
        self._logs.draw_bars()

    async def __aenter__(self) -> Screen:
        self._ticking = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ticking:
            self._ticking.cancel()
        self._logs.finish()
        self.flush()
        self._line.clear()

    # -- events

    @singledispatchmethod
    def on_event(self, event: ev.Event) -> None:
        """Show an event of the run. Most are a line; the others have a method below."""
        self._say_line_of(event)

    @on_event.register
    def _stage_started(self, event: ev.StageStarted) -> None:
        came = self._is_waiting and self._stage == "wait"
        self._stage, self._since = event.stage, time.monotonic()
        self._transfer = Transfer(self._since)
        moved = event.stage == "start" and self._has_moved
        if event.stage == "sync" or came or moved:
            self._has_moved = False
            self._say_layout()

    @on_event.register
    def _progressed(self, event: ev.CopyProgressed) -> None:
        self._transfer.update(event.host, event.bytes, event.percent, event.done)

    @on_event.register
    def _source_read(self, event: ev.SourceRead) -> None:
        if event.is_over:
            self._reading = None
        elif self._reading is None or self._reading.name != event.name:
            self._reading = Reading(event.name, time.monotonic())
        if self._reading is not None:
            self._reading.update(event.bytes, event.total)

    @on_event.register
    def _image_building(self, event: ev.ImageBuilding) -> None:
        if not self._building:
            self._transfer = Transfer(time.monotonic())  # the context is there
        self._building = f"building the image on {event.on}"
        if event.step and self._line.moves:
            self._say(f"{event.on}: {log_lines.harmless(event.step.encode()).decode()}", dim=True)

    @on_event.register
    def _image_built(self, event: ev.ImageBuilt | ev.ImageNotBuilt) -> None:
        self._building = ""
        self._say_line_of(event)

    @on_event.register
    def _host_failed(self, event: ev.HostFailed) -> None:
        error = HostError(event.host, event.message, event.hint)
        error.code = event.code
        self._errors.append(error)  # many hosts fail alike
        self._held.wait()

    @on_event.register
    def _run_restarted(self, event: ev.RunRestarted | ev.WaitsAgain) -> None:
        self._muted = False
        self._say_line_of(event)

    @on_event.register
    def _of_many_hosts(self, event: OfManyHosts) -> None:
        self._of_many.append(event)  # many hosts have the same to tell
        self._held.wait()

    @on_event.register
    def _gpu_taken(self, event: ev.GpuTaken) -> None:
        self._has_moved = True  # what the screen said of hosts and GPUs is no longer so
        self._say_line_of(event)

    @on_event.register
    def _process_exited(self, event: ev.ProcessExited) -> None:
        if event.is_well or event.stopped or event.tolerated:
            self._say_line_of(event)
        elif not self._muted:
            self._muted = True
            self.flush()
            is_of_role = event.key in self._logs.tasks
            who = f"{event.host} {event.key}" if is_of_role else process_name(event)
            self._say(f"{who} {failure_of(event).meaning}; stopping all ranks", "red")

    @on_event.register
    def _node_replaced(self, event: ev.NodeReplaced) -> None:
        self._logs.widen_to(len(event.by) + 4)
        self._say_line_of(event)

    @on_event.register
    def _run_stalled(self, event: ev.RunStalled) -> None:
        self._is_stalled = True
        self.flush()
        quiet = duration(event.seconds)
        self._say(f"no progress for {quiet}: no output and no CPU use on any rank", "yellow")
        self._say(f"  {event.behind}", "yellow")
        if event.last:
            last = log_lines.harmless(event.last.encode()).decode()
            self._say(f"  its last line, {duration(event.silent)} ago: {last}")
        self._say("  stacks of all ranks go to outputs/stalls", dim=True)

    @on_event.register
    def _stall_ended(self, event: ev.StallEnded) -> None:
        if self._is_stalled:
            self._is_stalled = False
            self._say_line_of(event)

    @on_event.register
    def _outputs_pulled(self, event: ev.OutputsPulled) -> None:
        failed = list(event.failed.items())
        for alike in groups(failed, [why for _, why in failed]):
            hosts = nodeset.fold(host for host, _ in alike)
            self._say(f"{hosts}: outputs are not complete: {alike[0][1]}", "yellow")

    def _say_line_of(self, event: ev.Event) -> None:
        line = line_of(event)
        if line:
            self._say(line.text, line.colour, line.dim)

    def _say_layout(self) -> None:
        assert self._run is not None
        layout = self._run.layout
        if layout.nodes:
            self.fit(layout)
        self._is_waiting = not layout.nodes or layout.wanted > 0
        if self._is_waiting:
            return  # which hosts it gets is not known before its turn
        parts = [
            f"{node.host.name} {_who(node)}" + (f" GPU {fold(node.gpus)}" if node.gpus else "")
            for node in layout.nodes
        ]
        count = layout.num_nodes
        parts[8:] = [f"and {count - 8} more"] if count > 8 else []
        head = f"{counted(count, 'host')}, {counted(layout.world_size, 'rank')}: "
        self._say("\n".join(wrapped(head, parts, width_of(sys.stderr))))

    def stopping(self) -> None:
        """Acknowledge Ctrl-C."""
        assert self._run is not None
        self._muted = True
        if self._run.killing:
            self._say("killing now; the receipt follows", "yellow")
        elif self._stage == "wait":
            self._say("leaving the queue", "yellow")
        elif self._stage == "collect":
            self._say("bringing outputs back; Ctrl-C again leaves them on the hosts", "yellow")
        elif self._stage == "store":
            self._say("storing outputs; Ctrl-C again leaves them on the hosts", "yellow")
        else:
            grace = duration(self._run.grace)
            self._say(f"stopping (up to {grace}); Ctrl-C again to kill now", "yellow")

    def continuing(self) -> None:
        """Acknowledge that the user wants the run to continue."""
        assert self._run is not None
        self._say(f"{self._run.name} continues", dim=True)

    # -- logs

    def on_log(self, host: str, name: str, data: bytes, arrived: float = 0.0) -> None:
        """Show new bytes of a log, which ``arrived`` at that time, now if it is not known."""
        self._logs.add(host, name, data, arrived, stopping=self._muted)

    def flush(self) -> None:
        """Show what waits for equal lines of other ranks, or equal words of other hosts."""
        self._held.end()

    def _show_held(self) -> None:
        of_many, self._of_many = self._of_many, []
        for told in lines_of_many(of_many):
            self._say(told.text, told.colour, told.dim)
        errors, self._errors = self._errors, []
        if errors:
            from .messages import say_error  # few runs have any

            self._line.clear()
            for said in fold_errors(errors):
                say_error(said.text, said.hint)
        self._logs.show_queued()

    # -- launcher's own messages

    def ask(self, question: str | None) -> None:
        """Show a question below everything that comes, until it is None."""
        self._question = question
        self._line.clear()
        if question and self._line.moves:
            self._line.draw(question)
        elif question:
            self._say(question)

    def _say(self, text: str, colour: str | None = None, dim: bool = False) -> None:
        self._line.clear()
        click.echo(click.style(text, fg=colour, dim=dim), err=True)

    @property
    def _doing(self) -> str | None:
        """What takes its time now, in words."""
        return self._building or _DOING.get(self._stage) or _DOING_ELSE.get(self._stage)

    async def _tick(self) -> None:
        """Draw the moving line, and show lines that stay unfinished for long."""
        while True:
            await asyncio.sleep(STEP)
            now = time.monotonic()
            is_slow = self._doing is not None and now - self._since > STILL
            if self._line.moves and self._question:
                self._line.draw(self._question)
            elif self._line.moves and is_slow:
                self._draw_line(now)
            elif self._logs.draws_bars and self._doing is None:
                self._draw_running(now)
            self._logs.show_unfinished(now)

    def _draw_line(self, now: float) -> None:
        if self._reading is not None:  # beside connecting, which is quick
            self._line.draw(self._reading.text(now), dim=True)
            return
        spent = duration(now - self._since)
        self._line.draw(f"{self._doing} {spent}  {self._transfer.text(now)}".rstrip(), dim=True)

    def _draw_running(self, now: float) -> None:
        """Draw the bars of the ranks, or how long a quiet run has said nothing."""
        heard = self._logs.heard
        silent = None if heard is None else now - heard
        quiet = silent if silent is not None else now - self._since
        if bars := self._logs.bars():
            text, slowest = bars
            notes = [f"slowest {slowest}"] if slowest else []
            notes += [f"last output {took(quiet)} ago"] if quiet > QUIET else []
            end = "".join(f"  {note}" for note in notes)
            self._line.draw(cut(text, terminal_width() - 1 - len(end)) + end, dim=True)
        elif quiet > QUIET and not self._muted and self._run is not None:
            with suppress(InputError):  # its start is not recorded yet
                self._line.draw(quiet_line(time.time() - self._run.started, silent), dim=True)

    def receipt(self, receipt: Receipt) -> None:
        """Show the receipt."""
        from .receipt import receipt_text

        click.echo(receipt_text(receipt, width_of(sys.stderr)), err=True)


def _who(node: Node) -> str:
    """Return what a host runs: ``[0-3]``, or ``chief-0 worker-[0-2]``."""
    return fold_tasks(task.key for task in node.tasks) or f"[{nodeset.fold_ranks(node.ranks)}]"
