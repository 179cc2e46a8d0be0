"""Format the live view of a run: its hosts and how busy they are, its scalars, its last lines. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import click

from ...spec import nodeset
from ...spec.frozen import frozen
from .dots import plot
from .metrics import curve
from .tables import counted, cut, table

#: Characters of the curve of a scalar at least and at most.
LEAST, MOST = 10, 60
#: Lines of a plot without its title, characters that it has at least, and the lines below the hosts that
#: it takes to have plots.
PLOT, PLOT_WIDTH, TALL = 5, 38, 16
#: What keys do, in as many words as there is room for.
_KEYS = ("q leaves, the run goes on; ↑ ↓ scroll", "q leaves; ↑ ↓ scroll", "q leaves")
_EIGHTHS = "▁▂▃▄▅▆▇█"
_COLOUR = {"running": "green", "failed": "red", "lost": "red", "stopping": "yellow"}


@frozen
class HostView:
    """A host of the run: what it runs, how its processes are, and percents of the last while, the latest
    last, each None where it was not measured."""

    name: str
    ranks: str
    state: str
    processors: tuple[float | None, ...] = ()
    memory: float | None = None  # GB
    gpus: tuple[float | None, ...] = ()  # the mean of its GPUs
    gpu_memory: float | None = None  # GB of the fullest


@frozen
class ScalarView:
    """A scalar of one source, of so many that have it."""

    tag: str
    source: str
    sources: int
    step: int
    values: tuple[float, ...]


@frozen
class LiveView:
    """A run at a moment."""

    name: str
    status: str
    about: str  # how long, on what
    hosts: tuple[HostView, ...]
    scalars: tuple[ScalarView, ...]
    lines: tuple[str, ...]  # the last ones that it printed
    note: str = ""
    held: int | None = None  # lines that came after those, while somebody reads


def live_text(view: LiveView, width: int, height: int) -> list[str]:
    """Return the lines of a picture that fits this size: output gets what the others leave."""
    lines = _above(view, width, height)
    left = height - len(lines) - 1
    if left > 0 and (output := view.lines[-left:]):
        lines += ["", *(cut(line, width) for line in output)]
    return lines[:height]


def output_room(view: LiveView, width: int, height: int) -> int:
    """Return how many lines of output there is room for."""
    return max(0, height - len(_above(view, width, height)) - 1)


def _above(view: LiveView, width: int, height: int) -> list[str]:
    head = cut(f"{view.name}  {view.status}  {view.about}", width)
    fitting = (keys for keys in _KEYS if len(head) + len(keys) + 2 <= width)
    if keys := next(fitting, ""):
        head = head.ljust(width - len(keys)) + click.style(keys, dim=True)
    head = head.replace(view.status, click.style(view.status, fg=_COLOUR.get(view.status)), 1)
    room = max(0, height - 2)
    hosts = _hosts(view.hosts, min(max(4, room // 3), room), width)
    left = room - len(hosts) - 1 if hosts else room
    drawn = min(len(view.scalars), 4, width // PLOT_WIDTH) if left >= TALL else 0
    plots = _plots(view.scalars[:drawn], width)
    left -= len(plots)
    rest = view.scalars[drawn:]
    scalars = _scalars(rest, max(0, min(left // 2, max(3, room // 4))), width)
    lines = [head, *_apart(hosts), *plots, *_apart(scalars)]
    for note in (view.note, _held(view.held)):
        if note:
            lines.append(click.style(cut(note, width), fg="yellow"))
    return lines


def _held(below: int | None) -> str:
    return "" if below is None else f"{counted(below, 'line')} below: space goes on"


def _apart(lines: Sequence[str]) -> list[str]:
    """Return lines below an empty one, the first of them dim."""
    return ["", click.style(lines[0], dim=True), *lines[1:]] if lines else []


# -- hosts


def _hosts(hosts: Sequence[HostView], room: int, width: int) -> list[str]:
    """Return a table with a row for each host, or for all that are in the same state."""
    if not hosts or room < 2:
        return []
    rows = [_row([host]) for host in hosts]
    if len(rows) > room - 1:
        alike: dict[str, list[HostView]] = {}
        for host in hosts:
            alike.setdefault(host.state, []).append(host)
        rows = [_row(group) for group in alike.values()]
    has_gpus = any(host.gpus for host in hosts)
    head = ("hosts", "ranks", "state", "processors", "memory GB", "gpus", "gpu GB")
    columns = len(head) if has_gpus else len(head) - 2
    for spared in ((), (4,), (4, 6), (1, 4, 6)):  # a narrow terminal leaves columns out
        kept = [index for index in range(columns) if index not in spared]
        lines = table([head[i] for i in kept], [[row[i] for i in kept] for row in rows]).split("\n")
        if max(map(len, lines)) <= width:
            break
    if len(lines) > room:
        lines = [*lines[: room - 1], f"and {len(lines) - room + 1} more"]
    return [cut(line, width) for line in lines]


def _row(hosts: Sequence[HostView]) -> tuple[str, ...]:
    names = nodeset.fold(host.name for host in hosts)
    ranks = hosts[0].ranks if len(hosts) == 1 else f"{len(hosts)} hosts"
    return (
        names,
        ranks,
        hosts[0].state,
        _percents([host.processors for host in hosts]),
        _range([host.memory for host in hosts]),
        _percents([host.gpus for host in hosts]),
        _range([host.gpu_memory for host in hosts]),
    )


def _percents(many: Sequence[Sequence[float | None]]) -> str:
    """Return the last percent with a curve of one, and the range of several."""
    if len(many) == 1 and many[0] and many[0][-1] is not None:
        return f"{many[0][-1]:3.0f} % {curve(many[0])}"
    text = _range([values[-1] if values else None for values in many])
    return f"{text} %" if text else ""


def _range(values: Iterable[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    least, most = f"{min(known):.0f}", f"{max(known):.0f}"
    return least if least == most else f"{least}-{most}"


# -- scalars


def _scalars(scalars: Sequence[ScalarView], room: int, width: int) -> list[str]:
    """Return a line with a curve for each scalar, as many as there is room for."""
    if not scalars or room < 2:
        return []
    shown = scalars[: room - 1]
    columns = [
        ("scalar", *(cut(one.tag, 24) for one in shown)),
        ("last", *(f"{one.values[-1]:.4g}" for one in shown)),
        ("step", *(str(one.step) for one in shown)),
        ("of", *(cut(_source(one), 20) for one in shown)),
    ]
    taken = sum(max(map(len, column)) + 2 for column in columns)
    space = max(LEAST, min(MOST, width - taken))
    rows = [
        [column[index] for column in columns] + [spark(one.values, space)]
        for index, one in enumerate(shown, 1)
    ]
    more = len(scalars) - len(shown)
    title = f"and {more} more" if more else ""
    lines = table([column[0] for column in columns] + [title], rows).split("\n")
    return [cut(line, width) for line in lines]


def _plots(scalars: Sequence[ScalarView], width: int) -> list[str]:
    """Return plots side by side, with a title each, below an empty line."""
    if not scalars:
        return []
    room = (width + 2) // len(scalars) - 2
    blocks = []
    for one in scalars:
        last = f"{one.values[-1]:.4g}"
        title = cut(f"{one.tag}  {last}  step {one.step}  {_source(one)}", room)
        curve_ = plot(one.values, room, PLOT) or [" " * room] * PLOT
        blocks.append([click.style(title.ljust(room), bold=True), *curve_])
    return ["", *("  ".join(row) for row in zip(*blocks, strict=True))]


def _source(one: ScalarView) -> str:
    others = f" +{one.sources - 1}" if one.sources > 1 else ""
    return f"{one.source or 'outputs'}{others}"


def spark(values: Sequence[float], width: int) -> str:
    """Return a curve of any numbers, from the least to the most of them."""
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    count = min(width, len(known))
    pieces = [known[n * len(known) // count : (n + 1) * len(known) // count] for n in range(count)]
    means = [sum(piece) / len(piece) for piece in pieces]
    least, most = min(means), max(means)
    if not math.isfinite(most - least) or most == least:
        return _EIGHTHS[3] * count
    return "".join(_EIGHTHS[round(7 * (mean - least) / (most - least))] for mean in means)


def state_of(codes: Mapping[int | None, int]) -> str:
    """Return how processes are, by their exit codes (None: running): ``3 running, 1 exited with 1``."""
    running = codes.get(None, 0)
    parts = [f"{running} running"] if running else []
    for code, count in sorted((code, n) for code, n in codes.items() if code is not None):
        how = "done" if code == 0 else f"exited with {code}" if code > 0 else f"ended by {-code}"
        parts.append(f"{count} {how}")
    return ", ".join(parts) or "not started"
