"""Format how busy hosts and GPUs were. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import click

from ...records.metrics import GpuUse, HostUse, Sample
from ...spec import nodeset
from ...spec.sizes import size
from .tables import duration, table, wrapped

#: Seconds of a run before its idle GPUs are worth a word, and the part of the time from which they are.
LONG_ENOUGH, MUCH = 60.0, 0.5
#: Mean percent of processors from which they are what a run waits for.
BUSY = 85.0
#: Characters of a curve.
CURVE = 8
_EIGHTHS = "▁▂▃▄▅▆▇█"


def gpu_lines(use: Mapping[str, HostUse], width: int) -> list[str]:
    """Return what a receipt says of the GPUs of a run; nothing where none was measured."""
    gpus = [gpu for host in use.values() for gpu in host.gpus.values()]
    if not any(gpu.percent is not None or gpu.memory for gpu in gpus):
        return []
    parts = []
    if (percent := _mean(gpu.percent for gpu in gpus)) is not None:
        parts.append(f"{percent:.0f} % busy on average")
    if memory := max((gpu.memory for gpu in gpus if gpu.memory), default=0.0):
        parts.append(f"at most {_gpu_memory(memory)} in use on one")
    if hours := [gpu.watt_hours for gpu in gpus if gpu.watt_hours is not None]:
        parts.append(_energy(sum(hours)))
    return [f"gpus     {', '.join(parts)}", *_idle(use, width)]


def _idle(use: Mapping[str, HostUse], width: int) -> list[str]:
    """Return which GPUs did nothing for much of the time, and what that hints at."""
    known = {name: host for name, host in use.items() if host.seconds >= LONG_ENOUGH}
    idle = {
        name: [gpu for gpu, one in host.gpus.items() if (one.idle or 0.0) > MUCH]
        for name, host in known.items()
    }
    hosts = [name for name, gpus in idle.items() if gpus]
    if not hosts:
        return []
    shares = [known[name].gpus[gpu].idle or 0.0 for name in hosts for gpu in idle[name]]
    alike: dict[str, list[str]] = {}
    for name in hosts:
        alike.setdefault(nodeset.fold_ranks(map(int, idle[name])), []).append(name)
    places = [f"{nodeset.fold(names)} GPU {gpus}" for gpus, names in alike.items()]
    text = f"         idle for {100 * sum(shares) / len(shares):.0f} % of the time: "
    lines = wrapped(text, [*(f"{place}," for place in places[:-1]), places[-1]], width)
    lines.append(f"         {_why(known, hosts, idle)}")
    return [click.style(line, fg="yellow") for line in lines]


def _why(
    use: Mapping[str, HostUse], hosts: Sequence[str], idle: Mapping[str, Sequence[str]]
) -> str:
    if sum(map(len, idle.values())) < sum(len(host.gpus) for host in use.values()):
        return "the others worked: look for ranks that wait, or got less to do"
    cpu = _mean(use[name].cpu for name in hosts)
    if cpu is not None and cpu >= BUSY:
        return f"the processors were {cpu:.0f} % busy: loading data may be what takes so long"
    return "do ranks wait for data, a disk or each other? launcher metrics shows when"


def host_line(use: Mapping[str, HostUse]) -> str:
    """Return the use of processors and memory in a few words; "" where nothing was measured."""
    parts = []
    if (cpu := _mean(host.cpu for host in use.values())) is not None:
        parts.append(f"processors {cpu:.0f} % busy on average")
    full = [(host.memory or 0.0, name) for name, host in use.items() if host.memory_total]
    if full:
        most, name = max(full)
        where = f" on {name}" if len(use) > 1 else ""
        total = use[name].memory_total or 0.0
        parts.append(f"memory at most {size(int(most))} of {size(int(total))}{where}")
    return ", ".join(parts)


# -- the table of a run


def metrics_table(
    taken: Mapping[str, Sequence[Sample]], use: Mapping[str, HostUse], plain: bool
) -> str:
    """Return a row for each host: means, peaks, and curves over the whole run unless ``plain``."""
    has_gpus = any(host.gpus for host in use.values())
    head = ["host", "processors", "memory GB", "MB/s in, out"]
    head += ["gpus", "gpu GB", "watts"] if has_gpus else ["disk MB/s read, written"]
    rows = []
    for name, host in use.items():
        samples = taken[name]
        row = [
            name,
            _percent(host.cpu, samples, lambda sample: sample.cpu, plain),
            _of(host.memory, host.memory_total),
            _rates([sample.network for sample in samples]),
        ]
        if has_gpus:
            row += _gpu_cells(host, samples, plain)
        else:
            row.append(_rates([sample.disk for sample in samples]))
        rows.append(row)
    return table(head, rows)


def spent(use: Mapping[str, HostUse]) -> str:
    """Return for how long was measured."""
    return duration(max(host.seconds for host in use.values()))


def _gpu_cells(host: HostUse, samples: Sequence[Sample], plain: bool) -> list[str]:
    gpus = list(host.gpus.values())
    watts = [_mean_watts(gpu, host.seconds) for gpu in gpus]
    memory = max((gpu.memory for gpu in gpus if gpu.memory), default=None)
    power = sum(value for value in watts if value is not None)
    return [
        _percent(_mean(gpu.percent for gpu in gpus), samples, _mean_of_gpus, plain),
        "" if memory is None else _short(memory * 2**20 / 1e9),
        f"{power:.0f}" if any(value is not None for value in watts) else "",
    ]


def _mean_watts(gpu: GpuUse, seconds: float) -> float | None:
    return None if gpu.watt_hours is None or not seconds else 3600 * gpu.watt_hours / seconds


def _mean_of_gpus(sample: Sample) -> float | None:
    return _mean(gpu.percent for gpu in sample.gpus.values())


def _percent(
    mean: float | None,
    samples: Sequence[Sample],
    value: Callable[[Sample], float | None],
    plain: bool,
) -> str:
    if mean is None:
        return ""
    return f"{mean:3.0f} %" + ("" if plain else f" {curve([value(one) for one in samples])}")


def curve(values: Sequence[float | None]) -> str:
    """Return a curve of percents in a few characters, a blank where nothing is known."""
    count = min(CURVE, len(values))
    marks = []
    for place in range(count):
        piece = values[place * len(values) // count : (place + 1) * len(values) // count]
        mean = _mean(piece)
        step = min(len(_EIGHTHS) - 1, int((mean or 0.0) * len(_EIGHTHS) / 100))
        marks.append(" " if mean is None else _EIGHTHS[step])
    return "".join(marks)


def _of(part: float | None, whole: float | None) -> str:
    return "" if part is None or whole is None else f"{_short(part / 1e9)} of {whole / 1e9:.0f}"


def _rates(pairs: Sequence[tuple[float, float] | None]) -> str:
    known = [pair for pair in pairs if pair]
    if not known:
        return ""
    one, other = (sum(pair[side] for pair in known) / len(known) for side in (0, 1))
    return f"{_short(one / 1e6)}, {_short(other / 1e6)}"


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _gpu_memory(mebibytes: float) -> str:
    return size(int(mebibytes) << 20)


def _energy(watt_hours: float) -> str:
    return f"{watt_hours / 1000:.2f} kWh" if watt_hours >= 1000 else f"{watt_hours:.1f} Wh"


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
