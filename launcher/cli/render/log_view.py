"""The logs of all processes as one stream: equal lines once, each with a label that says whose it is."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from click.globals import resolve_color_default

from ...spec import nodeset
from ...spec.frozen import frozen
from ...spec.process_key import ProcessKey, ProcessKind
from . import log_lines
from .bars import folded
from .columns import terminal_width
from .hold import Hold
from .moving_line import MovingLine
from .tables import cut, fold_tasks

if TYPE_CHECKING:
    from ...spec.model import Layout, Task

#: How many times as many lines wait where they are held for longer.
HELD = 8
#: Seconds after which an unfinished line (a progress bar) is shown as it stands.
UNFINISHED = 10.0

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_LOG_NAME = re.compile(r"attempt-\d+/([\w-]+-\d+)\.(out|err)\Z", re.A)


@frozen
class Shown:
    """What of the logs is shown, and how: of these ranks (None: of all), raw, lines with a match, with
    times."""

    ranks: frozenset[int] | None = None
    raw: bool = False
    grep: re.Pattern[bytes] | None = None
    timestamps: bool = False


class LogView:
    """Prints what processes write. Lines wait in ``hold`` for equal ones of other ranks."""

    def __init__(self, shown: Shown, to_stderr: bool, line: MovingLine, hold: Hold) -> None:
        self._shown, self._line, self._hold = shown, line, hold
        self._out = sys.stderr.buffer if to_stderr else sys.stdout.buffer
        self._colour = _wants_colour(self._out)
        self._room = log_lines.FOLDED * (1 if hold.quiet == hold.most else HELD)
        #: Whether bars of ranks are drawn in the moving line, and not printed.
        self.draws_bars = False
        #: The processes of roles and ranks, by their keys, as far as they are known.
        self.tasks: dict[str, Task] = {}
        self._width = 12
        self._sources: list[_Source] = []
        self._by_log: dict[tuple[str, str], int] = {}
        self._queues: dict[int, deque[bytes]] = {}
        self._queued, self._attempt = 0, ""

    @property
    def columns(self) -> int | None:
        """The columns of the terminal that shows logs; None without one."""
        return terminal_width() if self._out.isatty() else None

    @property
    def heard(self) -> float | None:
        """When anything came last, by the monotonic clock; None before."""
        return max((source.heard for source in self._sources), default=None)

    def widen(self, hosts: Iterable[str]) -> None:
        """Make room for labels with these host names."""
        self._width = max(map(len, hosts), default=0)

    def widen_to(self, columns: int) -> None:
        """Make room for a label of so many columns."""
        self._width = max(self._width, columns)

    def fit(self, layout: Layout) -> None:
        """Learn the processes of a run, and make room for their labels."""
        self._width = layout.label_width
        self.tasks = {task.key: task for node in layout.nodes for task in node.tasks}

    def draw_bars(self) -> None:
        """Have bars of ranks move, if there is a terminal to move on and whole logs are shown."""
        is_whole = not self._shown.raw and self._shown.grep is None
        self.draws_bars = self._line.moves and self._out.isatty() and is_whole

    def add(self, host: str, name: str, data: bytes, arrived: float, stopping: bool) -> None:
        """Show new bytes of a log, which ``arrived`` at that time, now if it is not known (0).

        While a run is ``stopping``, what its framework's own launcher says of that is left out.
        """
        attempt = name.partition("/")[0]
        if attempt != self._attempt:
            self._hold.end()  # what ranks say again is not what they have said before
            self._attempt = attempt
        place = self._by_log.get((host, name))
        if place is None:
            place = self._by_log[host, name] = len(self._sources)
            self._sources.append(_Source.named(host, name, self.tasks))
            self._queues[place] = deque()
        source = self._sources[place]
        if self._shown.ranks is not None and source.rank not in self._shown.ranks:
            return
        if stopping and source.kind is ProcessKind.NODE and source.stream == "err":
            return
        source.arrived, source.heard = arrived or time.time(), time.monotonic()
        self._enqueue(source, source.splitter.feed(data))

    def finish(self) -> None:
        """Show the lines that logs begin and do not end."""
        for source in self._sources:
            self._enqueue(source, source.splitter.finish())

    def show_unfinished(self, now: float) -> None:
        """Show lines that have stayed unfinished for long, by the monotonic clock."""
        for source in self._sources:
            is_drawn = self.draws_bars and source.splitter.bar()
            is_late = now - source.shown > UNFINISHED and not is_drawn
            if is_late and (line := source.splitter.current()):
                self._enqueue(source, line + b"\n")

    def bars(self) -> tuple[str, str] | None:
        """Return the bars of the ranks as one, after its label, and which rank is slowest ("": none is);
        None without any."""
        texts = {
            place: log_lines.harmless(bar).decode()
            for place, source in enumerate(self._sources)
            if (bar := source.splitter.bar())
        }
        if not (bars := folded(texts)):
            return None
        slowest = "" if bars.slowest is None else self._sources[bars.slowest].label
        return f"{self._label_text(bars.sources)} {bars.text.strip()}", slowest

    def show_queued(self) -> None:
        """Show the lines that wait for equal lines of other ranks."""
        if not self._queued:
            return
        self._queued = 0
        for line in log_lines.fold(self._queues):
            text = line.text
            if line.is_bar:  # ranges may have made it too long
                room = terminal_width() - len(self._label_text(line.sources)) - 1
                text = cut(text.decode(), room).encode()
            self._print(self._label(line.sources), text + b"\n")

    def _enqueue(self, source: _Source, lines: bytes) -> None:
        if not lines:
            return
        source.shown = time.monotonic()
        place = self._by_log[source.host, source.log]
        if self._shown.grep or self._shown.timestamps:
            lines = b"".join(self._marked(source, lines))
        count = lines.count(b"\n")
        if self._queued + count > self._room:
            self._hold.end()
        is_much = count > log_lines.FOLDED
        mark_bars = self.draws_bars and not is_much
        shown = log_lines.readable(lines, self._shown.raw, self._colour, mark_bars)
        if not shown:
            return
        if is_much:
            self._print(self._label((place,)), shown)
            return
        self._queues[place].extend(shown[:-1].split(b"\n"))
        self._queued += count
        self._hold.wait()

    def _marked(self, source: _Source, lines: bytes) -> Iterator[bytes]:
        """Yield the lines that the user wants to see, with their time if that is wanted."""
        grep, stamp = self._shown.grep, b""
        if self._shown.timestamps:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S ", time.localtime(source.arrived)).encode()
        for line in map(log_lines.returned, lines.split(b"\n")[:-1]):
            if not grep or grep.search(log_lines.uncoloured(line)):
                yield stamp + line + b"\n"

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
        elif self.tasks:
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
        self._line.clear()
        self._out.write(label + lines[:-1].replace(b"\n", b"\n" + label) + b"\n")
        self._out.flush()


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
