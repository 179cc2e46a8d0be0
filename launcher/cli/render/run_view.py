"""The live screen of a run: merged log lines on stdout, launcher's own messages on stderr.

Quiet when all is well: a line for what was decided, a moving line for what takes longer than a
second, then the user's own output.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import singledispatchmethod
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import click
from click.globals import resolve_color_default

from ...records import events as ev
from ...spec import nodeset
from ...spec.errors import HostError, InputError
from ...spec.gpus import fold
from ...spec.process_key import ProcessKey, ProcessKind
from ..run_argument import ask_passphrase
from ..terminal import control
from . import log_lines
from .bars import folded
from .columns import terminal_width, width_of
from .event_lines import OfManyHosts, failure_of, line_of, lines_of_many, process_name
from .folding import fold_errors, groups
from .hints import below_error
from .progress import Reading, Transfer, quiet_line
from .tables import counted, cut, duration, fold_tasks, took, wrapped

if TYPE_CHECKING:
    from ...records.receipt import Receipt
    from ...spec.model import Layout, Node, Task

#: Seconds that a line waits for equal lines of other ranks.
FOLD_WINDOW = 0.12
#: How many times as many lines wait where they are held for longer.
HELD = 8
#: Seconds that a stage may take before the moving line appears, and between its steps.
STILL, STEP = 1.0, 0.2
#: Seconds after which an unfinished line (a progress bar) is shown as it stands.
UNFINISHED = 10.0
#: Seconds without output after which a run shows that it is running.
QUIET = 5.0

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_LOG_NAME = re.compile(r"attempt-\d+/([\w-]+-\d+)\.(out|err)\Z", re.A)
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
        self._grep, self._timestamps = grep, timestamps
        self._ranks, self._raw, self._hold = ranks, raw, hold
        self._held_since = 0.0
        self._room = log_lines.FOLDED * (1 if hold[0] == hold[1] else HELD)
        self._errors: list[HostError] = []
        self._of_many: list[OfManyHosts] = []
        self._out = sys.stderr.buffer if logs_to_stderr else sys.stdout.buffer
        self._colour = _wants_colour(self._out)
        self._moving = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._is_live = False  # whether bars of ranks move, and a quiet run shows that it runs
        self._sources: list[_Source] = []
        self._by_log: dict[tuple[str, str], int] = {}
        self._queues: dict[int, deque[bytes]] = {}
        self._queued, self._attempt = 0, ""
        self._flush: asyncio.TimerHandle | None = None
        self._stage, self._since = "", time.monotonic()
        self._transfer = Transfer(self._since)
        self._reading: Reading | None = None
        self._building = ""  # what an image is built on, while it is
        self._line_is_up = self._asking = False
        self.has_keys = True  # what the user types is for launcher
        self._question: str | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._run: Watched | None = None
        self._muted = self._is_stalled = self._is_waiting = self._has_moved = False
        self._width = 12
        self._tasks: dict[str, Task] = {}

    @property
    def columns(self) -> int | None:
        """The columns of the terminal that shows logs; None without one."""
        return terminal_width() if self._out.isatty() else None

    def widen(self, hosts: Iterable[str]) -> None:
        """Make room for labels with these host names."""
        self._width = max(map(len, hosts), default=0)

    def fit(self, layout: Layout) -> None:
        """Learn the processes of a run, and make room for their labels."""
        self._width = layout.label_width
        self._tasks = {task.key: task for node in layout.nodes for task in node.tasks}

    def begin(self, run: Watched) -> None:
        """Show which run this is."""
        self._run = run
        self.go_live()
        self._say(f"run {click.style(run.name, bold=True)}")

    def go_live(self) -> None:
        """Show bars of ranks as they move, if there is a terminal to move on."""
        is_whole = not self._raw and self._grep is None
        self._is_live = self._moving and self._out.isatty() and is_whole

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
        for source in self._sources:
            self._enqueue(source, source.splitter.finish())
        self.flush()
        self._clear_line()

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
        if event.step and self._moving:
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
        self._wait_for_more()

    @on_event.register
    def _run_restarted(self, event: ev.RunRestarted | ev.WaitsAgain) -> None:
        self._muted = False
        self._say_line_of(event)

    @on_event.register
    def _of_many_hosts(self, event: OfManyHosts) -> None:
        self._of_many.append(event)  # many hosts have the same to tell
        self._wait_for_more()

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
            is_of_role = event.key in self._tasks
            who = f"{event.host} {event.key}" if is_of_role else process_name(event)
            self._say(f"{who} {failure_of(event).meaning}; stopping all ranks", "red")

    @on_event.register
    def _node_replaced(self, event: ev.NodeReplaced) -> None:
        self._width = max(self._width, len(event.by) + 4)
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
        attempt = name.partition("/")[0]
        if attempt != self._attempt:
            self.flush()  # what ranks say again is not what they have said before
            self._attempt = attempt
        place = self._by_log.get((host, name))
        if place is None:
            place = self._by_log[host, name] = len(self._sources)
            self._sources.append(_Source.named(host, name, self._tasks))
            self._queues[place] = deque()
        source = self._sources[place]
        if self._ranks is not None and source.rank not in self._ranks:
            return
        if self._muted and source.kind is ProcessKind.NODE and source.stream == "err":
            return  # a framework's launcher complains when we stop its ranks
        source.arrived, source.heard = arrived or time.time(), time.monotonic()
        self._enqueue(source, source.splitter.feed(data))

    def _enqueue(self, source: _Source, lines: bytes) -> None:
        if not lines:
            return
        source.shown = time.monotonic()
        place = self._by_log[source.host, source.log]
        if self._grep or self._timestamps:
            lines = self._marked(source, lines)
        count = lines.count(b"\n")
        if self._queued + count > self._room:
            self.flush()
        is_much = count > log_lines.FOLDED
        mark_bars = self._is_live and not is_much
        shown = log_lines.readable(lines, self._raw, self._colour, mark_bars)
        if not shown:
            return
        if is_much:
            self._print(self._label((place,)), shown)
            return
        self._queues[place].extend(shown[:-1].split(b"\n"))
        self._queued += count
        self._wait_for_more()

    def _marked(self, source: _Source, lines: bytes) -> bytes:
        """Return the lines that the user wants to see, with their time if that is wanted."""
        shown = map(log_lines.returned, lines.split(b"\n")[:-1])
        wanted = [
            line
            for line in shown
            if not self._grep or self._grep.search(log_lines.uncoloured(line))
        ]
        stamp = b""
        if self._timestamps:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(source.arrived)).encode()
        return b"".join(stamp + line + b"\n" for line in wanted)

    def _wait_for_more(self) -> None:
        """Show what is queued once nothing was added for a moment, but not too late."""
        loop, (quiet, most) = asyncio.get_running_loop(), self._hold
        if self._flush is None:
            self._held_since = loop.time()
        elif quiet == most:
            return
        else:
            self._flush.cancel()
        when = min(loop.time() + quiet, self._held_since + most)
        self._flush = loop.call_at(when, self.flush)

    def flush(self) -> None:
        """Show the lines that wait for equal lines of other ranks."""
        if self._flush:
            self._flush.cancel()
            self._flush = None
        of_many, self._of_many = self._of_many, []
        for told in lines_of_many(of_many):
            self._say(told.text, told.colour, told.dim)
        errors, self._errors = self._errors, []
        for said in fold_errors(errors):
            self._complain(said.text, said.hint)
        if self._queued:
            self._queued = 0
            for line in log_lines.fold(self._queues):
                text = line.text
                if line.is_bar:  # ranges may have made it too long
                    room = terminal_width() - len(self._label_text(line.sources)) - 1
                    text = cut(text.decode(), room).encode()
                self._print(self._label(line.sources), text + b"\n")

    def _label(self, places: tuple[int, ...]) -> bytes:
        """Return ``lab2 [3] │ `` for one log, ``[0-3] │ `` for several."""
        label = f"{self._label_text(places)} "
        if self._colour:
            colour = _COLOURS[self._sources[places[0]].number % len(_COLOURS)]
            label = f"\x1b[{colour if len(places) == 1 else 1}m{label}\x1b[0m"
        return label.encode()

    def _label_text(self, places: tuple[int, ...]) -> str:
        sources = [self._sources[place] for place in places]
        if len(sources) == 1:
            text = sources[0].label
        elif self._tasks:
            text = fold_tasks(dict.fromkeys(source.key for source in sources))
        elif all(source.rank is not None for source in sources):
            ranks = {source.rank for source in sources if source.rank is not None}
            text = f"[{nodeset.fold_ranks(sorted(ranks))}]"
        else:
            text = nodeset.fold(dict.fromkeys(source.host for source in sources))
        bar = "│" if sources[0].stream == "out" else "┆"
        return f"{text.rjust(self._width)} {bar}"

    def _print(self, label: bytes, lines: bytes) -> None:
        """Print whole lines, each with its label, in one write."""
        self._clear_line()
        self._out.write(label + lines[:-1].replace(b"\n", b"\n" + label) + b"\n")
        self._out.flush()

    # -- launcher's own messages

    async def ask_passphrase(self, file: str) -> str:
        """Ask at the terminal; the moving line pauses."""
        self._clear_line()
        self._asking = True
        try:
            return await ask_passphrase(file)
        finally:
            self._asking = False

    def ask(self, question: str | None) -> None:
        """Show a question below everything that comes, until it is None."""
        self._question = question
        self._clear_line()
        if question and self._moving:
            self._draw(question)
        elif question:
            self._say(question)

    def _say(self, text: str, colour: str | None = None, dim: bool = False) -> None:
        self._clear_line()
        click.echo(click.style(text, fg=colour, dim=dim), err=True)

    def _complain(self, text: str, hint: str) -> None:
        self._clear_line()
        click.echo(click.style("error: ", fg="red", bold=True) + text, err=True)
        if hint:
            click.echo(below_error(hint), err=True)

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
            if self._moving and self._question:
                self._draw(self._question)
            elif self._moving and not self._asking and is_slow:
                self._draw_line(now)
            elif self._is_live and not self._asking and self._doing is None:
                self._draw_running(now)
            for source in self._sources:
                if now - source.shown > UNFINISHED and (line := self._unfinished(source)):
                    self._enqueue(source, line + b"\n")

    def _unfinished(self, source: _Source) -> bytes:
        """Return the line that a source has begun, unless it is a bar that moves below."""
        is_below = self._is_live and source.splitter.bar()
        return b"" if is_below else source.splitter.current()

    def _draw_line(self, now: float) -> None:
        if self._reading is not None:  # beside connecting, which is quick
            self._draw(self._reading.text(now), dim=True)
            return
        spent = duration(now - self._since)
        self._draw(f"{self._doing} {spent}  {self._transfer.text(now)}".rstrip(), dim=True)

    def _draw_running(self, now: float) -> None:
        """Draw the bars of the ranks, or how long a quiet run has said nothing."""
        heard = max((source.heard for source in self._sources), default=None)
        silent = None if heard is None else now - heard
        quiet = silent if silent is not None else now - self._since
        texts = {
            place: log_lines.harmless(bar).decode()
            for place, source in enumerate(self._sources)
            if (bar := source.splitter.bar())
        }
        if bars := folded(texts):
            notes = [] if bars.slowest is None else [f"slowest {self._sources[bars.slowest].label}"]
            notes += [f"last output {took(quiet)} ago"] if quiet > QUIET else []
            end = "".join(f"  {note}" for note in notes)
            text = f"{self._label_text(bars.sources)} {bars.text.strip()}"
            self._draw(cut(text, terminal_width() - 1 - len(end)) + end, dim=True)
        elif quiet > QUIET and not self._muted and self._run is not None:
            with suppress(InputError):  # its start is not recorded yet
                self._draw(quiet_line(time.time() - self._run.started, silent), dim=True)

    def _draw(self, line: str, dim: bool = False) -> None:
        width = max(20, terminal_width() - 1)
        control("\r\x1b[2K")  # not through click, which takes it for colour and strips it
        click.echo(click.style(line[:width], dim=dim), nl=False, err=True)
        self._line_is_up = True

    def _clear_line(self) -> None:
        if self._line_is_up:
            control("\r\x1b[2K")
            sys.stderr.flush()
            self._line_is_up = False

    def receipt(self, receipt: Receipt) -> None:
        """Show the receipt."""
        from .receipt import receipt_text

        click.echo(receipt_text(receipt, width_of(sys.stderr)), err=True)


def _who(node: Node) -> str:
    """Return what a host runs: ``[0-3]``, or ``chief-0 worker-[0-2]``."""
    return fold_tasks(task.key for task in node.tasks) or f"[{nodeset.fold_ranks(node.ranks)}]"


class _Source:
    """One log: the process that writes it, and its unfinished line."""

    def __init__(self, host: str, log: str, process: ProcessKey, stream: str) -> None:
        self.host, self.log, self.kind, self.key = host, log, process.kind, str(process)
        self.number, self.stream = process.index, stream
        is_rank = process.kind is ProcessKind.RANK
        self.rank = process.index if is_rank else None
        self.label = f"{host} [{process.index}]" if is_rank else host
        if process.kind is ProcessKind.ROLE:
            self.label = f"{host} {process}"
        self.splitter = log_lines.Splitter()
        self.arrived = time.time()
        self.shown = self.heard = time.monotonic()

    @classmethod
    def named(cls, host: str, log: str, tasks: Mapping[str, Task]) -> _Source:
        match = _LOG_NAME.match(log)
        key, stream = match.groups() if match else (str(ProcessKey.of_node(0)), "out")
        source = cls(host, log, ProcessKey.parse(key), stream)
        if task := tasks.get(source.key):
            source.rank, source.number = task.rank, task.rank
        return source


def _wants_colour(stream: object) -> bool:
    """Return whether to colour labels: as click decides, and never into a file or a pipe."""
    if resolve_color_default() is False:
        return False
    return bool(getattr(stream, "isatty", lambda: False)())
