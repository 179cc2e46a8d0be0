"""The live screen of a run: merged log lines on stdout, launcher's own words on stderr.

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
from types import TracebackType
from typing import TYPE_CHECKING, Protocol

import click
from click.globals import resolve_color_default

from ...records import events as ev
from ...records.reasons import EndReason
from ...spec import nodeset
from ...spec.process_key import ProcessKey, ProcessKind
from ..run_argument import ask_passphrase
from ..terminal import control
from . import log_lines
from .hints import below_error, terminal_width
from .tables import counted, duration, fold_tasks

if TYPE_CHECKING:
    from ...records.receipt import Receipt
    from ...spec.model import Layout, Node, Task

#: Seconds that lines wait for equal ones of other ranks.
FOLD_WINDOW = 0.12
#: Seconds of silence of a stage before the moving line appears, and between its steps.
STILL, STEP = 1.0, 0.2
#: Seconds between two looks at an unfinished line (a progress bar) on the screen.
UNFINISHED = 10.0

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_LOG_NAME = re.compile(r"attempt-\d+/([\w-]+-\d+)\.(out|err)\Z", re.A)
_DOING = {
    "connect": "connecting",
    "sync": "copying code",
    "setup": "running setup",
    "start": "starting",
    "restart": "restarting",
    "collect": "bringing outputs back",
}


class Watched(Protocol):
    """What a screen wants to know of a run."""

    @property
    def name(self) -> str: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def grace(self) -> float: ...
    @property
    def killing(self) -> bool: ...


class Screen:
    """Shows events and logs; an async context manager for as long as the run lasts."""

    def __init__(
        self, ranks: frozenset[int] | None = None, raw: bool = False, logs_to_stderr: bool = False
    ) -> None:
        self._ranks, self._raw = ranks, raw
        self._out = sys.stderr.buffer if logs_to_stderr else sys.stdout.buffer
        self._colour = _wants_colour(self._out)
        self._moving = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._sources: list[_Source] = []
        self._by_log: dict[tuple[str, str], int] = {}
        self._queues: dict[int, deque[bytes]] = {}
        self._queued = 0
        self._flush: asyncio.TimerHandle | None = None
        self._stage, self._since, self._percent = "", time.monotonic(), ""
        self._line_is_up = self._asking = False
        self._ticking: asyncio.Task[None] | None = None
        self._run: Watched | None = None
        self._muted = self._is_stalled = False
        self._width = 12
        self._tasks: dict[str, Task] = {}

    def widen(self, hosts: Iterable[str]) -> None:
        """Makes room for labels with these names."""
        self._width = max(map(len, hosts))

    def fit(self, layout: Layout) -> None:
        """Knows the processes of a run, and makes room for their labels."""
        names = [len(node.host.name) for node in layout.nodes]
        self._width = max(names) + len(str(layout.world_size - 1)) + 3
        self._tasks = {task.key: task for node in layout.nodes for task in node.tasks}
        if self._tasks:
            self._width = max(names) + 1 + max(map(len, self._tasks))

    def begin(self, run: Watched) -> None:
        """Says which run this is."""
        self._run = run
        self._say(f"run {click.style(run.name, bold=True)}")

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

    def on_event(self, event: ev.Event) -> None:
        """One event of the run."""
        match event:
            case ev.StageStarted():
                self._stage, self._since, self._percent = event.stage, time.monotonic(), ""
                if event.stage == "sync":
                    self._say_layout()
            case ev.SyncProgressed():
                self._percent = f"  {event.host} {event.percent} %"
            case ev.HostConnected() if event.strays:
                strays = counted(event.strays, "process")
                self._say(f"{event.host}: ended {strays} that earlier runs had left", "yellow")
            case ev.OldRunEnded():
                self._say(f"{event.host}: ended {event.run}, which had gone on there", "yellow")
            case ev.HostFailed():
                self._complain(f"{event.host}: {event.message}", event.hint)
            case ev.HostsMet():
                self._say(f"master {event.master_addr} port {event.master_port}", dim=True)
            case ev.RunRestarted():
                self._muted = False
                why = "the port was taken" if event.reason == EndReason.PORT_TAKEN else event.reason
                self._say(f"starting again after {why}: attempt {event.attempt}", "yellow")
            case ev.PortReplaced():
                self._say(f"port {event.port} on {event.host} was taken; trying another", dim=True)
            case ev.ProcessExited() if event.tolerated:
                who = f"{event.host} [{event.rank}]" if event.rank is not None else event.host
                self._say(f"{who} ended with {event.code}; torchrun goes on if it can", "yellow")
            case ev.ProcessExited() if not event.is_well and not event.stopped:
                self._failed(event)
            case ev.OrphansFound():
                count = len(event.processes)
                self._say(f"{event.host}: {count} processes outlived the ranks; ending them")
            case ev.ConnectionDropped():
                self._say(f"{event.host}: {event.message}; the run goes on there", "yellow")
            case ev.ConnectionResumed():
                self._say(f"{event.host}: back after {duration(event.seconds)}", "green")
            case ev.LogsWaiting():
                self._say(f"{event.message}: logs wait on {event.host}; the run goes on", "yellow")
            case ev.LogsResumed():
                self._say(f"there is room again: logs of {event.host} go on", "green")
            case ev.NodeLost():
                self._say(f"{event.host}: lost ({event.reason})", "red")
            case ev.NodeReplaced():
                self._width = max(self._width, len(event.by) + 4)
                self._say(f"{event.by} takes the place of {event.host} ({event.reason})", "yellow")
            case ev.NodesReduced():
                left = f"{counted(event.num_nodes, 'host')}, {counted(event.world_size, 'rank')}"
                self._say(
                    f"no spare for {event.host} ({event.reason}): going on with {left}", "yellow"
                )
            case ev.OrphanTimeoutExpired():
                silent = duration(event.silent)
                self._say(f"{event.host}: stopped by itself, nobody reached it for {silent}", "red")
            case ev.RunStalled():
                self._stalled(event)
            case ev.StallEnded() if self._is_stalled:
                self._is_stalled = False
                self._say(f"{event.host}: goes on after {duration(event.seconds)}", "green")
            case ev.OutputsPulled():
                for host, why in event.failed.items():
                    self._say(f"{host}: outputs are not complete: {why}", "yellow")
            case _:
                pass

    def _say_layout(self) -> None:
        assert self._run is not None
        layout = self._run.layout
        parts = [
            f"{node.host.name} {_who(node)}"
            + (f" GPU {','.join(map(str, node.gpus))}" if node.gpus else "")
            for node in layout.nodes
        ]
        self.fit(layout)
        count = layout.num_nodes
        shown = "  ".join(parts[:8]) + (f"  and {count - 8} more" if count > 8 else "")
        self._say(f"{counted(count, 'host')}, {counted(layout.world_size, 'rank')}: {shown}")

    def _failed(self, event: ev.ProcessExited) -> None:
        if self._muted:
            return
        self._muted = True
        failure = ev.Failure(
            event.host, event.key, event.rank, event.code, event.oom, event.time, limit=event.limit
        )
        who = f"{event.host} [{event.rank}]" if event.rank is not None else event.host
        who = f"{event.host} {event.key}" if event.key in self._tasks else who
        self.flush()
        self._say(f"{who} {failure.meaning}; stopping all others", "red")

    def _stalled(self, event: ev.RunStalled) -> None:
        self._is_stalled = True
        self.flush()
        quiet = duration(event.seconds)
        self._say(f"stalled: no rank wrote or computed anything for {quiet}", "yellow")
        self._say(f"  {event.behind}", "yellow")
        if event.last:
            last = log_lines.harmless(event.last.encode()).decode()
            self._say(f"  its last line, {duration(event.silent)} ago: {last}")
        self._say("  stacks of all ranks go to outputs/stalls", dim=True)

    def stopping(self) -> None:
        """The user pressed Ctrl-C."""
        assert self._run is not None
        self._muted = True
        if self._run.killing:
            self._say("killing at once; the receipt follows", "yellow")
        else:
            grace = duration(self._run.grace)
            self._say(f"stopping, {grace} of grace; Ctrl-C again kills at once", "yellow")

    # -- logs

    def on_log(self, host: str, name: str, data: bytes) -> None:
        """New bytes of one log."""
        place = self._by_log.get((host, name))
        if place is None:
            place = self._by_log[host, name] = len(self._sources)
            self._sources.append(_Source.named(host, name, self._tasks))
            self._queues[place] = deque()
        source = self._sources[place]
        if self._ranks is not None and source.rank not in self._ranks:
            return
        if self._muted and source.kind is ProcessKind.NODE and source.stream == "err":
            return  # a framework's launcher complains about the end that we brought about
        self._enqueue(source, source.splitter.feed(data))

    def _enqueue(self, source: _Source, lines: bytes) -> None:
        if not lines:
            return
        source.shown = time.monotonic()
        place = self._by_log[source.host, source.log]
        count = lines.count(b"\n")
        if self._queued + count > log_lines.FOLDED:
            self.flush()
        shown = log_lines.readable(lines, self._raw)
        if not shown:
            return
        if count > log_lines.FOLDED:
            self._print(self._label((place,)), shown)
            return
        self._queues[place].extend(shown[:-1].split(b"\n"))
        self._queued += count
        if self._flush is None:
            loop = asyncio.get_running_loop()
            self._flush = loop.call_later(FOLD_WINDOW, self.flush)

    def flush(self) -> None:
        """Shows the lines that wait for equal ones of other ranks."""
        if self._flush:
            self._flush.cancel()
            self._flush = None
        if self._queued:
            self._queued = 0
            for line in log_lines.fold(self._queues):
                self._print(self._label(line.sources), line.text + b"\n")

    def _label(self, places: tuple[int, ...]) -> bytes:
        """``lab2 [3] │ `` for one log, ``[0-3] │ `` for several; colours stay with the host."""
        sources = [self._sources[place] for place in places]
        if len(sources) == 1:
            text = sources[0].label
        elif self._tasks:
            text = fold_tasks(dict.fromkeys(source.key for source in sources))
        elif all(source.rank is not None for source in sources):
            text = (
                f"[{nodeset.fold_ranks(sorted({s.rank for s in sources if s.rank is not None}))}]"
            )
        else:
            text = nodeset.fold(dict.fromkeys(source.host for source in sources))
        bar = "│" if sources[0].stream == "out" else "┆"
        label = f"{text.rjust(self._width)} {bar} "
        if self._colour:
            colour = _COLOURS[sources[0].number % len(_COLOURS)] if len(sources) == 1 else 1
            label = f"\x1b[{colour}m{label}\x1b[0m"
        return label.encode()

    def _print(self, label: bytes, lines: bytes) -> None:
        """Whole lines, each with its label, in one write."""
        self._clear_line()
        try:
            self._out.write(label + lines[:-1].replace(b"\n", b"\n" + label) + b"\n")
            self._out.flush()
        except BrokenPipeError:
            self._out = open(os.devnull, "wb")  # noqa: SIM115  nobody reads: the run goes on

    # -- launcher's own words

    async def ask_passphrase(self, file: str) -> str:
        """Asks at the terminal; nothing moves meanwhile."""
        self._clear_line()
        self._asking = True
        try:
            return await ask_passphrase(file)
        finally:
            self._asking = False

    def _say(self, text: str, colour: str | None = None, dim: bool = False) -> None:
        self._clear_line()
        click.echo(click.style(text, fg=colour, dim=dim), err=True)

    def _complain(self, text: str, hint: str) -> None:
        self._clear_line()
        click.echo(click.style("error: ", fg="red", bold=True) + text, err=True)
        if hint:
            click.echo(below_error(hint), err=True)

    async def _tick(self) -> None:
        """Keeps the moving line moving, and unfinished lines from being forgotten."""
        while True:
            await asyncio.sleep(STEP)
            now = time.monotonic()
            if (
                self._moving
                and not self._asking
                and self._stage in _DOING
                and now - self._since > STILL
            ):
                self._draw_line(now)
            for source in self._sources:
                if now - source.shown > UNFINISHED and (line := source.splitter.current()):
                    self._enqueue(source, line + b"\n")

    def _draw_line(self, now: float) -> None:
        spent = duration(now - self._since)
        line = f"{_DOING[self._stage]} {spent}{self._percent}"
        width = max(20, terminal_width() - 1)
        control("\r\x1b[2K")  # not by click, which takes a moving cursor for colour
        click.echo(click.style(line[:width], dim=True), nl=False, err=True)
        self._line_is_up = True

    def _clear_line(self) -> None:
        if self._line_is_up:
            control("\r\x1b[2K")
            sys.stderr.flush()
            self._line_is_up = False

    def receipt(self, receipt: Receipt) -> None:
        """The end."""
        from .receipt import receipt_text

        click.echo(receipt_text(receipt, terminal_width()), err=True)


def _who(node: Node) -> str:
    """What a host runs: ``[0-3]``, or ``chief-0 worker-[0-2]``."""
    return fold_tasks(task.key for task in node.tasks) or f"[{nodeset.fold_ranks(node.ranks)}]"


class _Source:
    """One log: whose it is, and its unfinished line."""

    def __init__(self, host: str, log: str, process: ProcessKey, stream: str) -> None:
        self.host, self.log, self.kind, self.key = host, log, process.kind, str(process)
        self.number, self.stream = process.index, stream
        is_rank = process.kind is ProcessKind.RANK
        self.rank = process.index if is_rank else None
        self.label = f"{host} [{process.index}]" if is_rank else host
        if process.kind is ProcessKind.ROLE:
            self.label = f"{host} {process}"
        self.splitter = log_lines.Splitter()
        self.shown = time.monotonic()

    @classmethod
    def named(cls, host: str, log: str, tasks: Mapping[str, Task]) -> _Source:
        match = _LOG_NAME.match(log)
        key, stream = match.groups() if match else (str(ProcessKey.of_node(0)), "out")
        source = cls(host, log, ProcessKey.parse(key), stream)
        if task := tasks.get(source.key):
            source.rank, source.number = task.rank, task.rank
        return source


def _wants_colour(stream: object) -> bool:
    """As the rest of the screen; and never into a file or a pipe."""
    if resolve_color_default() is False:
        return False
    return bool(getattr(stream, "isatty", lambda: False)())
