"""Format what the GPUs of all hosts do now; equal ones share a line, so that 64 hosts fit. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ...api.hosts import FOREIGN, FREE, HELD, LEFT, GpuState
from ...spec import nodeset
from ...spec.frozen import frozen
from ...spec.gpus import fold
from .queue import waiting_table
from .tables import age, counted, cut, due, local, table

if TYPE_CHECKING:
    from ...api.client import Cluster, Holding, HostNow

_HEAD = ("hosts", "gpus", "use", "memory GB", "°C", "who")
NO_GPUS = "no GPUs"
#: Characters of a user beside a run without GPUs.
USER = 20
#: In which order GPUs are shown.
_ORDER = (HELD, FOREIGN, LEFT, FREE)


@frozen
class _Row:
    """GPUs of a host in the same hands; ``what`` is the same for those that share a line."""

    what: tuple[str, ...]
    host: str
    gpus: tuple[GpuState, ...]

    @property
    def place(self) -> tuple[int, ...]:
        return tuple(gpu.index for gpu in self.gpus)


def top_text(cluster: Cluster, width: int, height: int, whole: bool = False) -> str:
    """Return the picture of a moment, on a screen of this size; ``whole`` if it cuts no line."""
    head, waiting = _summary(cluster), _waiting(cluster, max(5, height // 3), width)
    others = _others(cluster, max(4, height // 4))
    silent = _silent(cluster.hosts)
    tail = [*others, *([""] if others and silent else []), *silent, *waiting]
    room = max(3, height - 3 - len(tail))  # the summary, the line below it, the head of the table
    lines = _table(cluster)
    if len(lines) > room + 1:
        lines = _table(cluster, by_user=True)
    if len(lines) > room + 1:
        lines = [*lines[:room], f"and {len(lines) - room} more: launcher top --once"]
    return "\n".join(line if whole else cut(line, width) for line in [head, "", *lines, *tail])


def _summary(cluster: Cluster) -> str:
    gpus = [gpu for host in cluster.hosts for gpu in host.gpus]
    counts = {state: sum(gpu.state == state for gpu in gpus) for state in _ORDER}
    busy = [gpu.percent for gpu in gpus if gpu.state == HELD and gpu.percent is not None]
    mean = f" (mean use {sum(busy) / len(busy):.0f}%)" if busy else ""
    parts = [f"{counts[HELD]} held{mean}", f"{counts[FREE]} free"]
    if counts[FOREIGN]:
        parts.append(f"{counts[FOREIGN]} used outside launcher")
    if counts[LEFT]:
        parts.append(f"{counts[LEFT]} with memory of no process")
    moment = local(cluster.time)
    clock = f"{moment.tm_hour:02d}:{moment.tm_min:02d}:{moment.tm_sec:02d}"
    sizes = f"{counted(len(cluster.hosts), 'host')}, {counted(len(gpus), 'GPU')}"
    return f"{clock}  {sizes}: {', '.join(parts)}"


# -- GPUs


def _rows(host: HostNow, by_user: bool) -> Iterable[_Row]:
    hands: dict[tuple[str, ...], list[GpuState]] = {}
    for gpu in host.gpus:
        command = gpu.command if gpu.state == FOREIGN else ""
        what = ("", "") if by_user else (gpu.run, command)
        hands.setdefault((gpu.state, gpu.user, *what), []).append(gpu)
    for hand, gpus in hands.items():
        yield _Row(hand, host.host, tuple(gpus))


def _table(cluster: Cluster, by_user: bool = False) -> list[str]:
    """Return the lines of a table. Hosts share one where the same GPUs are in the same hands: of the
    same run or program, or of the same user."""
    rows = [row for host in cluster.hosts for row in _rows(host, by_user)]
    if not rows:
        return []
    alike: dict[tuple[object, ...], list[_Row]] = {}
    for row in rows:
        alike.setdefault((row.what, row.place), []).append(row)
    groups = sorted(alike.values(), key=lambda group: _ORDER.index(group[0].what[0]))
    lines = [
        (
            nodeset.fold(dict.fromkeys(row.host for row in group)),
            fold(group[0].place),
            _range([gpu.percent for gpu in _gpus(group)], "%"),
            _memory(_gpus(group)),
            _range([gpu.celsius for gpu in _gpus(group)]),
            _who(group, cluster),
        )
        for group in groups
    ]
    return table(_HEAD, lines).split("\n")


def _gpus(group: Iterable[_Row]) -> list[GpuState]:
    return [gpu for row in group for gpu in row.gpus]


def _range(values: Iterable[int | None], unit: str = "") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "-"
    low, high = min(known), max(known)
    return f"{low}{unit}" if low == high else f"{low}-{high}{unit}"


def _memory(gpus: Sequence[GpuState]) -> str:
    used = _range(round(gpu.used / 1024) for gpu in gpus)
    return f"{used}/{_range(round(gpu.memory / 1024) for gpu in gpus)}"


def _who(group: Sequence[_Row], cluster: Cluster) -> str:
    state, user, run, command = group[0].what
    if state == FREE:
        return "free"
    if state == LEFT:
        return "memory held by no process"
    gpus = _gpus(group)
    since = min((gpu.since for gpu in gpus if gpu.since), default=None)
    notes = [] if since is None else [age(max(0.0, cluster.time - since))]
    if state == FOREIGN:
        return f"{user} ({', '.join(['not launcher', *notes])}) {command}".rstrip()
    runs = {gpu.run for gpu in gpus if gpu.run}
    if not run and len(runs) > 1:
        return f"{user} {counted(len(runs), 'run')}"
    holding = _holding(cluster, user, run)
    if holding and holding.until:
        notes.append(f"until {due(holding.until, cluster.time)}")
    note = f" ({', '.join(notes)})" if notes else ""
    return f"{user} {run or next(iter(runs), 'without a run')}{note}"


def _holding(cluster: Cluster, user: str, run: str) -> Holding | None:
    held = cluster.queue.holding
    return next((one for one in held if run and (one.run, one.user) == (run, user)), None)


# -- what is below


def _others(cluster: Cluster, most: int) -> list[str]:
    """Return the runs that hold no GPU; hosts that have the same ones share a line."""
    alike: dict[tuple[str, str], list[tuple[str, float | None]]] = {}
    for host in cluster.hosts:
        for one in host.runs:
            alike.setdefault((one.user, one.run), []).append((host.host, one.since))
    if not alike:
        return []
    rows = []
    for (user, run), found in alike.items():
        since = min((began for _, began in found if began), default=None)
        lasted = "" if since is None else age(max(0.0, cluster.time - since))
        rows.append((nodeset.fold(host for host, _ in found), cut(user, USER), run, lasted))
    lines = table(("hosts", "user", "runs without GPUs", "age"), rows).split("\n")
    if len(lines) > most:
        lines = [*lines[: most - 1], f"and {len(lines) - most + 1} more: launcher ls --all-users"]
    return ["", *lines]


def _silent(hosts: Iterable[HostNow]) -> list[str]:
    """Return a line for each reason why hosts show no GPUs; reasons may differ in the host's name."""
    alike: dict[tuple[bool, str], list[HostNow]] = {}
    for host in hosts:
        if host.problem or not host.gpus:
            reason = (host.problem or NO_GPUS).replace(host.host, "\0")
            alike.setdefault((host.off, reason), []).append(host)
    lines = []
    for (off, _), group in alike.items():
        said = group[0].problem or NO_GPUS
        is_of_first = any((host.problem or NO_GPUS) != said for host in group)
        note = f" (as {group[0].host} says)" if is_of_first else ""
        names = nodeset.fold(host.host for host in group)
        lines.append(f"{names}: {'off: ' if off else ''}{said}{note}")
    return lines


def _waiting(cluster: Cluster, most: int, width: int) -> list[str]:
    waiting = cluster.queue.waiting
    if not waiting:
        return []
    shown = min(len(waiting), most)
    while True:
        lines = waiting_table(waiting[:shown], cluster.time, width).split("\n")
        left = len(waiting) - shown
        if shown == 1 or len(lines) + bool(left) <= most:
            return ["", *lines, *([f"and {left} more: launcher queue"] if left else [])]
        shown -= 1
