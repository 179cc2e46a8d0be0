"""How busy the hosts of a run were, from the lines that they write every few seconds. Pure.

Hosts have written the lines: what is not as it should be is left out. The agent's ``host/load.py`` says
what they hold. Times are those of this machine where the offset of a host's clock is known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field

from ..spec.frozen import frozen
from . import events as ev

#: Percent of a GPU's time below which it is idle.
IDLE = 5.0
#: GPUs of one line that are believed.
GPUS = 64
#: Seconds that a line stands for where it is the first, and at most.
FIRST, LONGEST = 1.0, 600.0

Pair = tuple[float, float]


@frozen
class GpuSample:
    """One GPU: percent of its time in which it computed, MiB in use, watts, degrees Celsius."""

    percent: float | None = None
    memory: float | None = None
    watts: float | None = None
    celsius: float | None = None


@frozen
class Sample:
    """A host at a moment. ``cpu`` is percent of all its processors' time, ``memory`` bytes in use and in
    all; ``network`` is bytes a second in and out, ``disk`` read and written."""

    time: float
    cpu: float | None = None
    memory: Pair | None = None
    network: Pair | None = None
    disk: Pair | None = None
    gpus: Mapping[int, GpuSample] = field(default_factory=dict)


@frozen
class GpuUse:
    """One GPU over a run: mean ``percent``, most MiB, watt-hours, and the part of the time that it was
    idle."""

    percent: float | None = None
    memory: float | None = None
    watt_hours: float | None = None
    idle: float | None = None


@frozen
class HostUse:
    """A host over ``seconds`` of a run: mean percent of its processors, most bytes of memory in use, of
    how many, and its GPUs by index."""

    seconds: float
    cpu: float | None = None
    memory: float | None = None
    memory_total: float | None = None
    gpus: Mapping[str, GpuUse] = field(default_factory=dict)


def offsets(events: Sequence[ev.Event]) -> dict[str, float]:
    """Return by how many seconds the clock of each host is ahead of this machine's."""
    return {one.host: one.clock_offset for one in events if isinstance(one, ev.HostConnected)}


def read(line: bytes, offset: float = 0.0) -> Sample | None:
    """Return what a line says, None where it is none of ours."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    time = _number(value.get("time")) if isinstance(value, dict) else None
    if time is None:
        return None
    cpu = _number(value.get("cpu"))
    return Sample(
        time - offset,
        None if cpu is None else min(cpu, 100.0),
        _pair(value.get("memory")),
        _pair(value.get("network")),
        _pair(value.get("disk")),
        _gpus(value.get("gpus")),
    )


def _gpus(value: object) -> dict[int, GpuSample]:
    if not isinstance(value, dict) or len(value) > GPUS:
        return {}
    found = {
        int(gpu): GpuSample(*(_number(one) for one in said))
        for gpu, said in value.items()
        if len(gpu) < 5 and gpu.isascii() and gpu.isdigit()
        if isinstance(said, list) and len(said) == 4
    }
    return dict(sorted(found.items()))


def _pair(value: object) -> Pair | None:
    if not isinstance(value, list) or len(value) != 2:
        return None
    first, second = map(_number, value)
    return None if first is None or second is None else (first, second)


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < 1e18 else None  # type: ignore[operator, arg-type]


# -- over a whole run


class _Mean:
    """A mean that is weighted with seconds."""

    def __init__(self) -> None:
        self.sum = self.seconds = 0.0

    def add(self, value: float | None, seconds: float) -> None:
        if value is not None:
            self.sum, self.seconds = self.sum + value * seconds, self.seconds + seconds

    @property
    def value(self) -> float | None:
        return round(self.sum / self.seconds, 3) if self.seconds else None


class _Gpu:
    def __init__(self) -> None:
        self.percent, self.watts, self.idle = _Mean(), _Mean(), _Mean()
        self.memory: float | None = None

    def add(self, sample: GpuSample, seconds: float) -> None:
        self.percent.add(sample.percent, seconds)
        self.watts.add(sample.watts, seconds)
        if sample.percent is not None:
            self.idle.add(float(sample.percent < IDLE), seconds)
        self.memory = _most(self.memory, sample.memory)

    def use(self) -> GpuUse:
        hours = round(self.watts.sum / 3600, 3) if self.watts.seconds else None
        return GpuUse(self.percent.value, self.memory, hours, self.idle.value)


def _most(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)


def use(taken: Iterator[Sample]) -> HostUse | None:
    """Return what samples of one host come to; None where there are none."""
    cpu, gpus = _Mean(), dict[int, _Gpu]()
    memory: float | None = None
    total: float | None = None
    seconds, last = 0.0, None
    for sample in taken:
        passed = FIRST if last is None else min(max(0.0, sample.time - last), LONGEST)
        last, seconds = sample.time, seconds + passed
        cpu.add(sample.cpu, passed)
        if sample.memory:
            memory, total = _most(memory, sample.memory[0]), sample.memory[1]
        for gpu, one in sample.gpus.items():
            gpus.setdefault(gpu, _Gpu()).add(one, passed)
    if last is None:
        return None
    found = {str(gpu): one.use() for gpu, one in sorted(gpus.items())}
    return HostUse(round(seconds, 3), cpu.value, memory, total, found)
