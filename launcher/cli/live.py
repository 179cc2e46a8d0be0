"""The live view of a run on a screen of its own. Leaving it never stops the run."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

from ..records.metric_curves import MetricCurves
from ..records.scalars import Key, Scalars, Series
from ..spec import nodeset
from . import keys
from .drawing import draw, screen, size
from .follow import LET_GO, End, on_hangup, tell_detached
from .render import log_lines
from .render.live import HostView, LiveView, ScalarView, live_text, output_room, state_of
from .render.tables import counted, duration

if TYPE_CHECKING:
    from ..api.handles import AsyncRunHandle
    from ..records.receipt import Receipt
    from ..records.state import RunState

#: Seconds between two pictures.
PAUSE = 1.0
#: Lines that are kept of the output, bytes of it that a look reads, and last lines of each log that are
#: shown where there is more.
LINES, BUDGET, TAIL = 500, 4 << 20, 40
#: Points of a curve.
POINTS = 240
#: By how many lines a key moves the output: those of less(1), and the last letters of what arrows and
#: page keys send (ECMA-48: ESC [ A).
STEPS = {"k": 1, "A": 1, "j": -1, "b": 10, "5": 10, "f": -10, "6": -10, "B": -1}


async def watched(run: AsyncRunHandle, ranks: frozenset[int] | None) -> End:
    """Show a run until it ends, or the user leaves by q or Ctrl-C: then it goes on. SIGTERM and SIGHUP
    leave, too."""
    leaving, redraw = asyncio.Event(), asyncio.Event()
    signalled = False
    loop = asyncio.get_running_loop()

    def hang_up() -> None:
        nonlocal signalled
        signalled = True
        leaving.set()

    view = _Watched(run, ranks)

    def on_key(key: str) -> None:
        if key in "qQ":
            leaving.set()
        elif view.scroll(key):
            redraw.set()

    loop.add_signal_handler(signal.SIGINT, leaving.set)
    loop.add_signal_handler(signal.SIGWINCH, redraw.set)
    on_hangup(hang_up)
    with screen(), keys.pressed(on_key) if keys.can_ask() else nullcontext():
        receipt = await _until_over(run, view, leaving, redraw)
        if receipt is None:
            receipt = await run.detach(in_background=not signalled)
    if receipt is None:
        tell_detached(run)
        return End(LET_GO if signalled else 0)
    from .render.run_view import Screen

    Screen().receipt(receipt)
    return End(receipt.exit_code, receipt)


async def _until_over(
    run: AsyncRunHandle, view: _Watched, leaving: asyncio.Event, redraw: asyncio.Event
) -> Receipt | None:
    """Draw until the run has ended, whose receipt is returned, or somebody leaves."""
    over = asyncio.ensure_future(run.wait())
    drawing = asyncio.ensure_future(_draw_all(view, redraw))
    left = asyncio.ensure_future(leaving.wait())
    try:
        await asyncio.wait({over, drawing, left}, return_when=asyncio.FIRST_COMPLETED)
        if drawing.done():
            drawing.result()  # it has failed
        return over.result() if over.done() else None
    finally:
        for task in (over, drawing, left):
            task.cancel()
        await asyncio.gather(over, drawing, left, return_exceptions=True)


async def _draw_all(view: _Watched, redraw: asyncio.Event) -> None:
    while True:
        await asyncio.to_thread(view.look)
        began = time.monotonic()
        while (left := began + PAUSE - time.monotonic()) > 0:
            now = size()
            draw(view.text(time.time(), now.columns, max(1, now.lines - 1)))
            redraw.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await redraw.wait()


class _Watched:
    """Reads what is new of a run, in the files here."""

    def __init__(self, run: AsyncRunHandle, ranks: frozenset[int] | None) -> None:
        self._run, self._ranks = run, ranks
        self._reader = run.reader()
        self._reader.skip_to_tail(TAIL)
        self._scalars, self._metrics = Scalars(run.folder), MetricCurves(run.folder)
        self._logs: dict[str, tuple[int, log_lines.Splitter]] = {}
        self._labels: list[tuple[str, str, str]] = []  # host, process, and the mark of the stream
        self._lines: deque[str] = deque(maxlen=LINES)
        self._heard = time.time()
        self._held: tuple[str, ...] = ()  # what somebody reads, while more comes
        self._below, self._came = 0, 0
        self._room = 1  # lines of output on the screen

    def scroll(self, key: str) -> bool:
        """Move the output by a key, back from its end or towards it; return whether it is such a key."""
        if key in " G" and self._held:
            self._go(0)
            return True
        step = STEPS.get(key)
        if step is None:
            return False
        if not self._held:
            if step < 0 or not self._lines:
                return False
            self._held, self._came = tuple(self._lines), 0
        self._go(self._below + step)
        return True

    def _go(self, below: int) -> None:
        """Show the lines that have so many below them, yet no fewer than there is room for."""
        self._below = max(0, min(len(self._held) - self._room, below))
        if not self._below:
            self._held = ()

    def look(self) -> None:
        """Read on. Raises UnreadableRecord."""
        self._metrics.look()
        self._scalars.look()
        keys = None if self._ranks is None else self._run.layout.keys_of(self._ranks)
        queues: dict[int, deque[bytes]] = {}
        read = 0
        for piece in self._reader.new_logs():
            self._heard, read = time.time(), read + len(piece.data)
            if keys is None or _key(piece.name) in keys:
                self._take(piece.host, piece.name, piece.data, queues)
            if read > BUDGET:
                self._reader.skip_to_tail(TAIL)
                break
        for line in log_lines.fold(queues):
            who = self._who(line.sources)
            self._lines.append(f"{who} {line.text.decode('utf-8', 'replace')}".expandtabs())
            self._came += 1

    def _take(self, host: str, name: str, data: bytes, queues: dict[int, deque[bytes]]) -> None:
        if name not in self._logs:
            mark = "┆" if name.endswith(".err") else "│"
            self._logs[name] = len(self._labels), log_lines.Splitter()
            self._labels.append((host, _key(name), mark))
        index, splitter = self._logs[name]
        lines = splitter.feed(data)
        if lines and (shown := log_lines.readable(lines)):
            queues[index] = deque(shown[:-1].split(b"\n")[-LINES:], maxlen=LINES)

    def _who(self, sources: tuple[int, ...]) -> str:
        """Return who printed a line: ``gpu1 [3] │``, ``[0-7] │``."""
        found = [self._labels[source] for source in sources]
        hosts = {host for host, _, _ in found}
        ranks = [key.removeprefix("rank-") for _, key, _ in found]
        text = (
            f"[{nodeset.fold_ranks(sorted(map(int, ranks)))}]"
            if all(rank.isdigit() for rank in ranks)
            else nodeset.fold(key for _, key, _ in found)
        )
        place = f"{hosts.pop()} " if len(hosts) == 1 else ""
        return f"{place}{text} {found[0][2]}"

    def text(self, now: float, width: int, height: int) -> list[str]:
        """Return the lines of a picture of this size."""
        view = self._picture(now)
        self._room = max(1, output_room(view, width, height))
        if self._below > len(self._held) - self._room:
            self._go(self._below)
            view = self._picture(now)
        return live_text(view, width, height)

    def _picture(self, now: float) -> LiveView:
        """Return the run as it stands."""
        state, layout = self._run.state(), self._run.layout
        ranks = f", {counted(layout.world_size, 'rank')}" if layout.world_size else ""
        attempt = f", attempt {state.attempt}" if state.attempt else ""
        since = duration(max(0.0, now - self._run.started))
        quiet = now - self._heard
        return LiveView(
            name=self._run.name,
            status=state.status,
            about=f"{since}  {counted(layout.num_nodes, 'host')}{ranks}{attempt}",
            hosts=tuple(self._hosts(state, now)),
            scalars=tuple(self._curves()),
            lines=self._held[: len(self._held) - self._below] or tuple(self._lines),
            held=self._below + self._came if self._held else None,
            note=_note(state) or (f"no output for {duration(quiet)}" if quiet > 60 else ""),
        )

    def _hosts(self, state: RunState, now: float) -> Iterator[HostView]:
        curves = self._metrics.series
        of_gpus: dict[tuple[str, str], list[Series]] = {}
        for key, series in curves.items():
            host, _, gpu = key.source.partition(" GPU ")
            if gpu:
                of_gpus.setdefault((host, key.tag), []).append(series)
        layout = self._run.layout
        for node in () if layout.wanted else layout.nodes:  # it may begin on any of them
            name = node.host.name
            use = of_gpus.get((name, "GPU use, %"), [])
            full = of_gpus.get((name, "GPU memory, MiB"), [])
            yield HostView(
                name=name,
                ranks=nodeset.fold_ranks(node.ranks),
                state=_state(state, name, now),
                processors=_last(curves.get(Key("Processors, %", name))),
                memory=_latest(curves.get(Key("Memory, GB", name))),
                gpus=_mean([_last(one) for one in use]),
                gpu_memory=max((v * 2**20 / 1e9 for v in map(_latest, full) if v), default=None),
            )

    def _curves(self) -> Iterator[ScalarView]:
        by_tag: dict[str, list[Key]] = {}
        for key in list(self._scalars.series):
            by_tag.setdefault(key.tag, []).append(key)
        for tag in sorted(by_tag, key=lambda tag: ("loss" not in tag.lower(), tag)):
            found = sorted(by_tag[tag], key=lambda key: _in_order(key.source))
            series = self._scalars.series[found[0]]
            if series.last is None:
                continue
            values = tuple(value for _, _, value in series.at_most(POINTS))
            yield ScalarView(
                _plain(tag), _plain(found[0].source), len(found), series.last[0], values
            )


def _key(name: str) -> str:
    return name.partition("/")[2].rpartition(".")[0]


def _in_order(source: str) -> tuple[int, str]:
    """Sort rank 2 before rank 10."""
    return len(source), source


def _plain(text: str) -> str:
    """Return a name that a program gave without characters that take no place or more than one."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _state(state: RunState, host: str, now: float) -> str:
    if host in state.lost:
        return "lost"
    if host in state.silent:
        return f"silent for {duration(max(0.0, now - state.silent[host]))}"
    codes = Counter(one.code for one in state.counted_on(host))
    return state_of(codes) + (", stalled" if host in state.stalled else "")


def _note(state: RunState) -> str:
    if state.failure:
        return f"first failure: {state.failure.key} on {state.failure.host}"
    return ""


def _last(series: Series | None) -> tuple[float | None, ...]:
    return tuple(value for _, _, value in series.points[-16:]) if series else ()


def _latest(series: Series | None) -> float | None:
    return series.last[2] if series and series.last else None


def _mean(many: list[tuple[float | None, ...]]) -> tuple[float | None, ...]:
    """Return the mean of several curves that end together."""
    count = min(map(len, many), default=0)
    means: list[float | None] = []
    for index in range(-count, 0):
        known = [v for values in many if (v := values[index]) is not None]
        means.append(sum(known) / len(known) if known else None)
    return tuple(means)
