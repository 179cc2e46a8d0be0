"""Draw where the time of a run went: a table for a terminal, and a picture of hosts over time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from ...records.profile import Span, Step, StepTime
from .chart import bar
from .tables import counted, cut, duration, table

#: Columns of the longest bar.
ROOM = 30
WIDTH, LEFT, RIGHT, TOP, ROW, GAP = 900, 130, 24, 64, 16, 4
#: Most hosts in a picture, those that took longest, and letters of a host's name.
MOST, LETTERS = 64, 16
#: A colour for each step and stage, after Okabe and Ito, told apart by all eyes; what has none is grey.
_COLOURS = {
    "connect": "#56b4e9",
    "sync": "#e69f00",
    Step.CODE: "#e69f00",
    "wait": "#c8c8c8",
    Step.DATA: "#f0e442",
    "setup": "#cc79a7",
    "start": "#0072b2",
    Step.PRELOAD: "#0072b2",
    Step.KEPT: "#0072b2",
    "run": "#009e73",
    Step.RANKS: "#009e73",
    "restart": "#d55e00",
    Step.END: "#d55e00",
    "collect": "#999999",
    "store": "#56b4e9",
}
_GREY = "#999999"


def profile_text(stages: Sequence[Span], steps: Sequence[StepTime], plain: bool) -> str:
    """Return the seconds of each stage, and of each step on hosts with the slowest host."""
    spent: dict[str, float] = {}
    for span in stages:
        spent[span.step] = spent.get(span.step, 0.0) + span.seconds
    whole = sum(spent.values())
    most = max(spent.values(), default=0.0)
    rows = [
        (
            stage,
            _seconds(seconds).rjust(10),
            f"{100 * seconds / whole:3.0f} %" if whole else "-",
            bar(seconds / most * ROOM, plain) if seconds and most else "",
        )
        for stage, seconds in spent.items()
    ]
    parts = [table(("stage", "took".rjust(10), "share", ""), rows)]
    if steps:
        hosts = max(one.hosts for one in steps)
        head = (
            f"on {counted(hosts, 'host')}",
            "hosts",
            "median".rjust(10),
            "longest".rjust(10),
            "",
        )
        lines = [
            (
                str(one.step),
                str(one.hosts).rjust(5),
                _seconds(one.median).rjust(10),
                _seconds(one.longest).rjust(10),
                one.host if one.hosts > 1 else "",
            )
            for one in steps
        ]
        parts.append(table(head, lines))
    return "\n\n".join(parts)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f} s" if seconds < 10 else duration(seconds)


def svg(title: str, stages: Sequence[Span], spans: Sequence[Span]) -> str:
    """Return a self-contained SVG: a bar of the run's stages, and one of each host's steps below."""
    ends = [span.end for span in (*stages, *spans)]
    scale = (WIDTH - LEFT - RIGHT) / (max(ends, default=0.0) or 1.0)
    hosts = list(dict.fromkeys(span.host for span in spans))
    shown = _slowest(hosts, spans)
    rows = [("run", stages)] + [(host, [s for s in spans if s.host == host]) for host in shown]
    height = TOP + len(rows) * (ROW + GAP) + 48
    left_out = (
        f"; the {len(shown)} slowest of {len(hosts)} hosts" if len(shown) < len(hosts) else ""
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        f'width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title><desc>{escape(_sentence(stages))}</desc>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="12" y="24" font-size="14">{escape(title + left_out)}</text>',
        *_legend({span.step: None for _, mine in rows for span in mine}),
    ]
    for number, (name, mine) in enumerate(rows):
        y = TOP + number * (ROW + GAP)
        parts.append(
            f'<text x="{LEFT - 8}" y="{y + 12}" text-anchor="end">{escape(cut(name, LETTERS))}</text>'
        )
        for span in mine:
            told = escape(f"{name}: {span.step} {_seconds(span.seconds)}")
            parts.append(
                f'<rect x="{LEFT + span.start * scale:.1f}" y="{y}" height="{ROW}" '
                f'width="{max(1.0, span.seconds * scale):.1f}" '
                f'fill="{_COLOURS.get(span.step, _GREY)}"><title>{told}</title></rect>'
            )
    floor = TOP + len(rows) * (ROW + GAP)
    parts.append(f'<path d="M{LEFT} {floor}H{WIDTH - RIGHT}" stroke="#444"/>')
    for part in range(5):
        x = LEFT + (WIDTH - LEFT - RIGHT) * part / 4
        moment = max(ends, default=0.0) * part / 4
        parts.append(
            f'<text x="{x:.0f}" y="{floor + 18}" text-anchor="middle">{moment:.3g} s</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _slowest(hosts: Sequence[str], spans: Sequence[Span]) -> list[str]:
    """Return the hosts to draw, in their order: where there are many, those that were done last."""
    done = {span.host: span.end for span in sorted(spans, key=lambda one: one.end)}
    latest = set(sorted(hosts, key=lambda host: -done[host])[:MOST])
    return [host for host in hosts if host in latest]


def _legend(known: dict[str, None]) -> list[str]:
    parts, x = [], 12
    for step in known:
        parts.append(
            f'<rect x="{x}" y="38" width="12" height="12" fill="{_COLOURS.get(step, _GREY)}"/>'
            f'<text x="{x + 16}" y="48">{escape(step)}</text>'
        )
        x += 32 + 7 * len(step)
    return parts


def _sentence(stages: Sequence[Span]) -> str:
    told = ", ".join(f"{one.step} {_seconds(one.seconds)}" for one in stages)
    return f"The stages of the run: {told}."
