"""Draw a sweep: the value of each trial in the order of their start, and parallel coordinates. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from xml.sax.saxutils import escape

from ...records.sweep_folder import SUCCEEDED, SweepSummary, TrialRecord
from ...spec.frozen import frozen
from .tables import cut

WIDTH, PANEL = 760, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 40, 50, 40
#: From this ratio of the greatest to the least value on, an axis is logarithmic.
LOG = 50.0
#: Most words that an axis names, and the letters of each.
WORDS, LETTERS = 12, 14
_BEST, _OTHER, _BLUE, _GREY = (22, 103, 183), (222, 226, 230), "#1667b7", "#999"


@frozen
class _Axis:
    """Where values stand on a line of ``length``, from its beginning; ``marks`` are named."""

    words: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False

    def place(self, value: str | float) -> float:
        """Return the place of a value, from 0 to 1."""
        if self.words:
            return (self.words.index(str(value)) + 0.5) / len(self.words)
        low, high, at = (self._scaled(one) for one in (self.low, self.high, float(value)))
        return 0.5 if high == low else (at - low) / (high - low)

    def marks(self) -> list[tuple[float, str]]:
        """Return the places that are named."""
        if self.words:
            every = -(-len(self.words) // WORDS)
            return [(self.place(word), cut(word, LETTERS)) for word in self.words[::every]]
        ends = dict.fromkeys((self.low, self.high))
        return [(self.place(one), f"{one:.4g}") for one in ends]

    def _scaled(self, value: float) -> float:
        return math.log(value) if self.log else value


def _axis(values: Sequence[str | float]) -> _Axis:
    """Return an axis for all of these: numbers, or else words in the order in which they came."""
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return _Axis(tuple(dict.fromkeys(map(str, values))))
    if not all(map(math.isfinite, numbers)):
        return _Axis(tuple(dict.fromkeys(map(str, values))))
    low, high = min(numbers, default=0.0), max(numbers, default=1.0)
    return _Axis(low=low, high=high, log=low > 0 and high / low >= LOG)


def svg(sweep: SweepSummary) -> str:
    """Return a self-contained SVG: no external font, script or style."""
    title = f"{sweep.name}: {sweep.record.metric or 'no metric'}, {sweep.record.goal} is best"
    height = 2 * PANEL
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(LEFT, 24, title, 'font-size="14"'),
        *_over_trials(sweep),
        *_parallel(sweep),
        "</svg>",
        "",
    ]
    return "\n".join(parts)


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(text)}</text>'.replace(" >", ">")


def _over_trials(sweep: SweepSummary) -> list[str]:
    """Return the value of each trial over its number, and the best one so far as a line."""
    floor, edge, room = PANEL - BOTTOM, WIDTH - RIGHT, PANEL - TOP - BOTTOM
    parts = [
        f'<path d="M{LEFT} {TOP}V{floor}H{edge}" fill="none" stroke="#444"/>',
        _text((LEFT + edge) / 2, floor + 28, "trial", 'text-anchor="middle"'),
    ]
    known = [(n, trial) for n, trial in enumerate(sweep.trials, 1) if trial.value is not None]
    if not known:
        return [*parts, _text(LEFT + 12, TOP + 20, "no trial has a value", f'fill="{_GREY}"')]
    axis = _axis([trial.value or 0.0 for _, trial in known])
    most = max(len(sweep.trials), 2)

    def at(number: int, value: float) -> tuple[float, float]:
        x = LEFT + 16 + (edge - LEFT - 32) * (number - 1) / (most - 1)
        return x, floor - 10 - (room - 20) * axis.place(value)

    better = min if sweep.record.goal == "min" else max
    best, line = None, []
    for number, trial in known:
        value = trial.value or 0.0
        if trial.status == SUCCEEDED:
            best = value if best is None else better(best, value)
        if best is not None:
            line.append("{:.1f},{:.1f}".format(*at(number, best)))
    parts.append(f'<polyline points="{" ".join(line)}" fill="none" stroke="{_BLUE}"/>')
    for number, trial in known:
        x, y = at(number, trial.value or 0.0)
        fill = _BLUE if trial.status == SUCCEEDED else "white"
        about = escape(f"{_values(trial)}: {trial.value:.6g}, {trial.status}")
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{fill}" stroke="{_BLUE}">'
            f"<title>{about}</title></circle>"
        )
    for place, name in axis.marks():
        y = floor - 10 - (room - 20) * place
        parts.append(_text(LEFT - 8, y + 4, name, 'text-anchor="end"'))
    parts += [
        _text(LEFT + 16, floor + 14, "1", 'text-anchor="middle"'),
        _text(edge - 16, floor + 14, str(most), 'text-anchor="middle"'),
    ]
    return parts


def _parallel(sweep: SweepSummary) -> list[str]:
    """Return a line for each trial with a value, through its values; the better, the bluer, on top."""
    ranked = [trial for trial in sweep.ranked if trial.value is not None]
    names = [*sweep.record.parameters, "value"]
    if not ranked:
        return []
    top, floor = PANEL + TOP, 2 * PANEL - BOTTOM
    step = (WIDTH - LEFT - RIGHT - 40) / max(1, len(names) - 1)
    rows = [[trial.params.get(name, "") for name in names[:-1]] for trial in ranked]
    columns = [_axis([row[at] for row in rows]) for at in range(len(names) - 1)]
    columns.append(_axis([trial.value or 0.0 for trial in ranked]))

    def at(column: int, value: str | float) -> str:
        y = floor - (floor - top) * columns[column].place(value)
        return f"{LEFT + column * step:.1f},{y:.1f}"

    parts = []
    for rank, (trial, row) in reversed(list(enumerate(zip(ranked, rows, strict=True)))):
        through: list[str | float] = [*row, trial.value or 0.0]
        points = [at(column, value) for column, value in enumerate(through)]
        share = 1 - rank / max(1, len(ranked) - 1)
        red, green, blue = (
            round(low + (high - low) * share) for low, high in zip(_OTHER, _BEST, strict=True)
        )
        parts.append(
            f'<polyline points="{" ".join(points)}" fill="none" '
            f'stroke="rgb({red},{green},{blue})" stroke-width="1.5"/>'
        )
    for column, (name, axis) in enumerate(zip(names, columns, strict=True)):
        x = LEFT + column * step
        parts.append(f'<path d="M{x:.1f} {top}V{floor}" stroke="#444"/>')
        parts.append(_text(x, top - 14, cut(name, 2 * LETTERS), 'text-anchor="middle"'))
        for place, mark in axis.marks():
            parts.append(_text(x + 5, floor - (floor - top) * place + 4, mark))
    return parts


def _values(trial: TrialRecord) -> str:
    return " ".join(f"{name}={value}" for name, value in trial.params.items())
