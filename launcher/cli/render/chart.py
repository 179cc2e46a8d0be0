"""Charts of speed-up over the number of hosts: bars for a terminal, and SVG."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from ...api.scaling import Row

_EIGHTHS = " ▏▎▍▌▋▊▉█"

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 24, 40, 56


def _measured(rows: Sequence[Row]) -> list[tuple[int, float, float]]:
    """Return ``(nodes, speed-up, ideal speed-up)`` of each trial with a rate."""
    return [
        (row.trial.nodes, row.speedup, row.speedup / row.efficiency)
        for row in rows
        if row.speedup and row.efficiency
    ]


def bars(rows: Sequence[Row], width: int, plain: bool) -> list[str]:
    """Return a bar per trial, as long as its speed-up, with a mark at the ideal one."""
    points = _measured(rows)
    most = max((max(speedup, ideal) for _, speedup, ideal in points), default=1.0)
    digits = max((len(str(nodes)) for nodes, _, _ in points), default=1)
    room = max(10, min(60, width - digits - 28))
    lines = []
    for nodes, speedup, ideal in points:
        filled = bar(speedup / most * room, plain)
        mark = min(room, round(ideal / most * room))
        line = filled if len(filled) > mark else filled.ljust(mark) + ("|" if plain else "┊")
        label = f"{nodes:>{digits}} node{' ' if nodes == 1 else 's'}  "
        lines.append(f"{label}{line.ljust(room + 1)} {_times(speedup)} of {ideal:.3g}")
    return lines


def _times(speedup: float) -> str:
    return f"{speedup:.2f}" if speedup < 1000 else f"{speedup:.3g}"


def bar(length: float, plain: bool) -> str:
    """Return a bar of so many columns, at least an eighth of one; of ``#`` where it is to be plain."""
    if plain:
        return "#" * max(1, round(length))
    whole, part = divmod(max(1, round(length * 8)), 8)
    return "█" * whole + (_EIGHTHS[part] if part else "")


def svg(rows: Sequence[Row], title: str, sentence: str) -> str:
    """Return a self-contained SVG: no external font, script or style."""
    points = _measured(rows)
    most_nodes = max((nodes for nodes, _, _ in points), default=1)
    most = 1.05 * max((max(speedup, ideal) for _, speedup, ideal in points), default=1.0)

    def x(nodes: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * nodes / most_nodes * 0.96, 1)

    def y(speedup: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * speedup / most, 1)

    def line(which: int) -> str:
        return " ".join(f"{x(point[0])},{y(point[which])}" for point in points)

    floor, edge = HEIGHT - BOTTOM, WIDTH - RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12" role="img">',
        f"<title>{escape(title)}</title><desc>{escape(sentence)}</desc>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{LEFT}" y="24" font-size="14">{escape(title)}</text>',
        f'<path d="M{LEFT} {TOP}V{floor}H{edge}" fill="none" stroke="#444"/>',
        f'<text x="{(LEFT + edge) // 2}" y="{floor + 34}" text-anchor="middle">nodes</text>',
        f'<text x="16" y="{(TOP + floor) // 2}" text-anchor="middle" '
        f'transform="rotate(-90 16 {(TOP + floor) // 2})">speed-up</text>',
        f'<polyline points="{line(2)}" fill="none" stroke="#999" stroke-dasharray="5 4"/>',
        f'<polyline points="{line(1)}" fill="none" stroke="#1667b7" stroke-width="2"/>',
    ]
    for nodes, speedup, ideal in points:
        parts += [
            f'<circle cx="{x(nodes)}" cy="{y(speedup)}" r="4" fill="#1667b7"/>',
            f'<text x="{x(nodes)}" y="{floor + 16}" text-anchor="middle">{nodes}</text>',
            f'<text x="{x(nodes)}" y="{y(speedup) + 20}" text-anchor="middle">'
            f"{speedup:.2f} ({100 * speedup / ideal:.0f} %)</text>",
        ]
    return "\n".join([*parts, "</svg>", ""])
