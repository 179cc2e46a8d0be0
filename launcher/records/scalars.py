"""The scalars of a run: what its scripts wrote for TensorBoard, and the numbers in its logs.

A reader keeps its place in every file, so that the next look reads only what came meanwhile. Hosts have
written the files: none is followed out of the folder, and what is kept is bounded.
"""

from __future__ import annotations

import json
import os
import re
import stat
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

from ..spec.files import open_plain
from ..spec.frozen import frozen
from ..spec.process_key import ProcessKey, ProcessKind
from ..spec.typed_json import from_json
from . import live_files, metric, tfevents
from .tfevents import NoEvents

#: Points of one series that are kept: of longer ones every second, fourth, ... point.
MOST = 4000
#: Series of one run, event files and folders that are looked at, and bytes that one look reads.
SERIES, FILES, BUDGET = 400, 20_000, 8 << 20
#: Logs of one run that are read, those of the lowest ranks first.
LOGS = 32
_PIECE = 1 << 20

_STEP = tuple(
    re.compile(rb"(?i)(?<![a-z])" + word + rb"['\"]?[\s:=#\[(]{1,3}(\d{1,15})")
    for word in (rb"(?:global[_ ]?)?step", rb"it(?:er(?:ation)?)?", rb"batch", rb"epoch")
)
_BAR = re.compile(rb"(?<![\d/])(\d{1,15})/\d{1,15} \[")


class Series:
    """One curve: steps, times and values, thinned evenly where there are too many."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float, float]] = []
        self.last: tuple[int, float, float] | None = None
        self.count, self._every = 0, 1
        self.least, self.most = float("inf"), float("-inf")

    def add(self, step: int, time: float, value: float) -> None:
        """Add the next point."""
        self.last = step, time, value
        self.least, self.most = min(self.least, value), max(self.most, value)
        if self.count % self._every == 0:
            self.points.append(self.last)
            if len(self.points) >= MOST:
                del self.points[1::2]
                self._every *= 2
        self.count += 1

    def at_most(self, count: int) -> list[tuple[int, float, float]]:
        """Return about so many of the points, the last one among them."""
        every = max(1, -(-len(self.points) // count))
        found = self.points[::every]
        return found if self.last is None or found[-1] == self.last else [*found, self.last]


@frozen
class Key:
    """What a series is of: a name, and the process or the folder of outputs that it comes from."""

    tag: str
    source: str


class Scalars:
    """Reads the scalars in the folder of a run, again and again."""

    def __init__(self, run: Path) -> None:
        self.series: dict[Key, Series] = {}
        self._run = run
        self._at: dict[str, int] = {}
        self._read = 0
        self._steps: dict[str, tuple[int, int, int]] = {}
        self._arrivals = _Arrivals(run / "times.jsonl")

    def look(self) -> bool:
        """Read what came since the last look; return False if there is more than one look reads."""
        left = self._events(BUDGET)
        self._arrivals.look()
        for path, source in logs_of(self._run):
            if left <= 0:
                break
            left = self._log(path, source, left)
        return not self._has_read() or left > 0

    def look_at_events(self) -> None:
        """Read what TensorBoard's files have got since the last look, and no logs."""
        while self._events(BUDGET) <= 0 and self._has_read():
            pass

    def _has_read(self) -> bool:
        """Return whether more was read since this was last asked: some records of hosts have no end."""
        before, self._read = self._read, sum(self._at.values())
        return before != self._read

    def _add(self, key: Key, step: int, time: float, value: float) -> None:
        series = self.series.get(key)
        if series is None:
            if not self._takes(key):
                return
            series = self.series[key] = Series()
        series.add(step, time, value)

    def _takes(self, key: Key) -> bool:
        """Return whether one more series is kept."""
        return len(self.series) < SERIES

    def _events(self, left: int) -> int:
        """Read files that came with pulls and those that travel as logs do: the longer of both."""
        live, read = live_files.by_name(self._run), set[str]()
        for name, folder, file in event_files(self._run / "outputs"):
            twins = live.get(name, [])
            read.update(word for word, _ in twins)
            openers = [partial(_opened, name, file), *(partial(_opened, p) for _, p in twins)]
            left = self._file([name, *(word for word, _ in twins)], folder, openers, left)
        for name, twins in live.items():
            for word, path in twins:
                if word not in read and is_events(name):
                    read.add(word)
                    left = self._file([word], os.path.dirname(name), [partial(_opened, path)], left)
        return left

    def _file(
        self, words: list[str], folder: str, openers: Iterable[Callable[[], BinaryIO]], left: int
    ) -> int:
        """Read on in the longest of files that begin alike; ``words`` are those for what was read."""
        at = max(self._at.get(word, 0) for word in words)
        with suppress(OSError), _longest(openers) as found:
            size = os.fstat(found.fileno()).st_size
            while 0 <= at < size and left > 0:
                found.seek(at)
                data = found.read(min(left, _PIECE + tfevents.LARGEST))
                left -= len(data)
                try:
                    points, skip = tfevents.points(data)
                except NoEvents:
                    at = -1
                    break
                for one in points:
                    self._add(Key(one.tag, folder), one.step, one.time, one.value)
                at += skip
                if not skip:
                    break
        self._at.update(dict.fromkeys(words, at))
        return left

    def _log(self, path: Path, source: str, left: int) -> int:
        name = path.relative_to(self._run / "logs").as_posix()
        at = self._at.get(name, 0)
        with suppress(OSError), open_plain(path) as file:
            file.seek(at)
            data = file.read(left)
            end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            if not end and len(data) >= _PIECE:  # no line that anybody wrote
                end = len(data)
            left -= len(data)
            self._lines(name, source, at, data[:end])
            self._at[name] = at + end
        return left

    def _lines(self, name: str, source: str, at: int, data: bytes) -> None:
        base, last, count = self._steps.get(name, (0, -1, 0))
        for offset, line in metric.lines_with_names(data):
            found = metric.named(line)
            if not found:
                continue
            step = step_of(line[: metric.LONGEST])
            if step is None:
                step = count
            elif step + base < last:  # it counts from 0 again in each epoch
                base = last + 1 - step
            last, count = step + base, count + 1
            time = self._arrivals.of(name, at + offset)
            for tag, value in found:
                self._add(Key(tag, source), last, time, value)
        self._steps[name] = base, last, count


def step_of(line: bytes) -> int | None:
    """Return the step that a line is about, by what programs usually call it; None if it names none."""
    for pattern in (*_STEP[:3], _BAR, _STEP[3]):
        if match := pattern.search(line):
            return int(match[1])
    return None


def written(outputs: Path) -> dict[tuple[str, str], list[tuple[float, int]]]:
    """Return time and step of each point of all of TensorBoard's scalars below a folder, by the folder
    of the file and the tag."""
    found: dict[tuple[str, str], list[tuple[float, int]]] = defaultdict(list)
    for name, folder, file in event_files(outputs):
        with suppress(OSError, NoEvents), _opened(name, file) as data:
            at = 0
            while True:
                data.seek(at)
                points, skip = tfevents.points(data.read(_PIECE + tfevents.LARGEST))
                for one in points:
                    found[folder, one.tag].append((one.time, one.step))
                if not skip:
                    break
                at += skip
    return found


def event_files(outputs: Path) -> Iterator[tuple[str, str, int]]:
    """Yield TensorBoard's files below a folder: the name of each, its folder below that, and the
    descriptor of its folder, which holds until the next one."""
    if not outputs.is_dir():
        return
    looked = 0
    for place, folders, names, here in os.fwalk(outputs, follow_symlinks=False):
        looked += 1 + len(names)
        folder = os.path.relpath(place, outputs)
        for name in sorted(names):
            if is_events(name):
                yield os.path.join(folder, name), "" if folder == "." else folder, here
        folders.sort()
        if looked > FILES:
            return


def is_events(name: str) -> bool:
    """Return whether a file has such a name."""
    return ".tfevents." in name.rpartition("/")[2]


def _longest(openers: Iterable[Callable[[], BinaryIO]]) -> BinaryIO:
    """Open the longest of some files. Raises OSError if there is none."""
    found: list[BinaryIO] = []
    for opener in openers:
        with suppress(OSError):
            found.append(opener())
    found.sort(key=lambda file: os.fstat(file.fileno()).st_size)
    if not found:
        raise FileNotFoundError
    for shorter in found[:-1]:
        shorter.close()
    return found[-1]


def _opened(name: str | Path, folder: int | None = None) -> BinaryIO:
    """Open a regular file, of a folder, and no link. Raises OSError."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    fd = os.open(name if folder is None else os.path.basename(name), flags, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError("no regular file")
    return os.fdopen(fd, "rb")


_LOG = re.compile(r"attempt-(\d{1,9})/([\w-]+-\d{1,9})\.(out|err)\Z", re.A)


def logs_of(run: Path, most: int = LOGS) -> list[tuple[Path, str]]:
    """Return the logs to read, each with the name of its series: ``rank 0``, ``node 0``, ``worker 2``;
    by rank and then by attempt; at ``most`` so many, those of the latest attempt first.

    Where ranks have logs, those and what nodes write to stderr; else those of nodes and roles. The
    console's pages choose by the same rule (``together`` in log.js).
    """
    folder = run / "logs"
    found: list[tuple[ProcessKey, int, str, Path]] = []
    for path in folder.glob("attempt-*/*"):
        place = _LOG.match(path.relative_to(folder).as_posix())
        if place and (key := ProcessKey.parse(place[2])).kind is not ProcessKind.SETUP:
            found.append((key, int(place[1]), place[3], path))
    if any(key.kind is ProcessKind.RANK for key, *_ in found):
        found = [
            one
            for one in found
            if one[0].kind is ProcessKind.RANK
            or (one[0].kind is ProcessKind.NODE and one[2] == "err")
        ]

    def order(one: tuple[ProcessKey, int, str, Path]) -> tuple[bool, int, str, int, str]:
        key, attempt, stream, _ = one
        return key.kind is not ProcessKind.RANK, key.index, key.group, attempt, stream

    found.sort(key=order)
    chosen = sorted(found, key=lambda one: (order(one)[0], -one[1]))[:most]
    return [(path, f"{key.group} {key.index}") for key, _, _, path in sorted(chosen, key=order)]


class _Arrivals:
    """When the bytes of each log came, as the run's folder has noted it."""

    def __init__(self, file: Path) -> None:
        self._file, self._at = file, 0
        self._noted: dict[str, tuple[list[int], list[float]]] = {}

    def look(self) -> None:
        """Read what was noted since the last look."""
        try:
            with open_plain(self._file) as file:
                file.seek(self._at)
                data = file.read()
        except OSError:
            return
        end = data.rfind(b"\n") + 1
        self._at += end
        for line in data[:end].splitlines():
            with suppress(ValueError, RecursionError):
                when, name, size = from_json(tuple[float, str, int], json.loads(line))
                sizes, times = self._noted.setdefault(name, ([], []))
                sizes.append(size)
                times.append(when)

    def of(self, name: str, offset: int) -> float:
        """Return when the byte at an offset had come, to the second; 0 if nobody noted it."""
        sizes, times = self._noted.get(name, ([], []))
        index = bisect_left(sizes, offset + 1)
        return times[min(index, len(times) - 1)] if times else 0.0
