"""The metrics of a run as curves, one for each host or GPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..spec.files import open_plain
from .metric_files import files
from .metrics import Sample, offsets, read
from .run_reader import RunReader
from .scalars import Key, Series

#: Bytes that one look reads of each file, and series that are kept.
BUDGET, SERIES = 4 << 20, 4096


#: What is measured, in the order in which people look at it.
TAGS = (
    "GPU use, %",
    "GPU memory, MiB",
    "Processors, %",
    "Memory, GB",
    "Network in, MB/s",
    "Network out, MB/s",
    "Disk read, MB/s",
    "Disk written, MB/s",
    "GPU power, W",
    "GPU temperature, °C",
)


class MetricCurves:
    """The metrics of a run, by what is measured and by host or GPU; a look reads what came since the
    last."""

    def __init__(self, run: Path) -> None:
        self.series: dict[Key, Series] = {}
        self._run = run
        self._places: dict[str, int] = {}
        self._clocks: dict[str, float] = {}

    def look(self) -> bool:
        """Read on; return whether all was read. Raises UnreadableRecord."""
        found = files(self._run)
        if not found.keys() <= self._clocks.keys():
            self._clocks = dict.fromkeys(found, 0.0) | offsets(RunReader(self._run).events())
        whole = [self._read(host, file) for host, file in found.items()]
        return all(whole)

    def _read(self, host: str, file: Path) -> bool:
        at = self._places.get(host, 0)
        try:
            with open_plain(file) as opened:
                opened.seek(at)
                data = opened.read(BUDGET)
        except OSError:
            return True
        end = data.rfind(b"\n") + 1
        self._places[host] = at + (end or (len(data) if len(data) == BUDGET else 0))
        for line in data[:end].splitlines():
            if sample := read(line, self._clocks[host]):
                self._add(host, sample)
        return len(data) < BUDGET

    def _add(self, host: str, sample: Sample) -> None:
        for name, source, value in _values(host, sample):
            key = Key(name, source)
            if value is not None and (key in self.series or len(self.series) < SERIES):
                series = self.series.setdefault(key, Series())
                series.add(series.count, sample.time, value)


def _values(host: str, sample: Sample) -> Iterator[tuple[str, str, float | None]]:
    for gpu, one in sample.gpus.items():
        where = f"{host} GPU {gpu}"
        yield "GPU use, %", where, one.percent
        yield "GPU memory, MiB", where, one.memory
        yield "GPU power, W", where, one.watts
        yield "GPU temperature, °C", where, one.celsius
    yield "Processors, %", host, sample.cpu
    yield "Memory, GB", host, sample.memory[0] / 1e9 if sample.memory else None
    for name, pair in (("Network", sample.network), ("Disk", sample.disk)):
        words = ("in", "out") if name == "Network" else ("read", "written")
        for word, value in zip(words, pair or (), strict=False):
            yield f"{name} {word}, MB/s", host, value / 1e6
