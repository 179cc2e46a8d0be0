"""Reads a program's rate from the numbers that it prints. Pure."""

from __future__ import annotations

import itertools
import math
import re
import statistics
from collections.abc import Sequence

from ...spec.frozen import frozen
from ...spec.model import Layout
from ...spec.process_key import ProcessKey, ProcessKind

#: Characters of a line that are read; programs print no rate after that.
LONGEST = 4096
#: The unit of a number that the user's own pattern found, where the pattern names none.
WORK = "units"
STEPS = "steps"

_NUMBER = r"(\d[\d,]*(?:\.\d*)?(?:[eE][+-]?\d+)?)"
#: Units that programs count; of several in a line the first here wins. Steps come last, because the
#: work of a step depends on its batch.
_COUNTED = (
    ("samples", r"samples?|examples?|items?|rows?|records?|sequences?|seqs?|sentences?"),
    ("images", r"images?|imgs?|pictures?|frames?"),
    ("tokens", r"tokens?|toks?|words?"),
    (STEPS, r"steps?|iterations?|iters?|its?|batch(?:es)?"),
)
UNITS = tuple(unit for unit, _ in _COUNTED)
_A_SECOND = r"[ _]?(?:/|per)[ _]?(?:seconds?|secs?|s)\b"
_THOUSANDS = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9}
_WORDS = "|".join(f"(?P<{unit}{{place}}>{words})" for unit, words in _COUNTED)
_USUAL = re.compile(
    # 123.4 samples/s, 1.2k tokens per second, 2.70it/s
    rf"(?<![\w.]){_NUMBER}\s?(?P<many>[kKMG]?)\s?(?:{_WORDS.format(place='_after')}){_A_SECOND}"
    r"(?![\]\)\"']*\s?[:=])"  # else the number follows the unit: step 10 samples/s: 123.4
    # samples/s: 123.4, 'train_samples_per_second': 123.4, throughput [tokens/s] = 5
    rf"|(?<![A-Za-z])(?:{_WORDS.format(place='_before')}){_A_SECOND}[\s\]\)\"':=|]{{1,8}}{_NUMBER}"
    # 2.70s/it: tqdm, for slow steps
    rf"|(?<![\w.]){_NUMBER}\s?s(?:ec)?/(?:it|step|iter)\b",
    re.IGNORECASE,
)


class NoRate(Exception):
    """A trial printed no usable rate; the text says why."""


@frozen
class Number:
    """One printed number: when (seconds of any one clock), by which process, and in which unit."""

    when: float
    key: str
    unit: str
    value: float


@frozen
class Rate:
    """The work of the whole job per second.

    It comes from ``count`` numbers; half of those of one process are within ``spread`` of the rate, as
    a part of it. ``note`` explains how it was derived, if that is not obvious.
    """

    value: float
    unit: str
    count: int
    spread: float = 0.0
    note: str = ""


def pattern(text: str) -> re.Pattern[str]:
    """Compile ``--pattern``. Raises ValueError unless it is valid and has exactly one group."""
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    if compiled.groups != 1:
        raise ValueError(
            f"{text!r} has {compiled.groups} groups; it needs exactly one, around the number"
        )
    return compiled


def usual(line: str) -> list[tuple[str, float]]:
    """Return ``(unit, value)`` of every rate in a line, as most programs print them."""
    if "/" not in line and "per" not in line.lower():
        return []
    found = []
    for match in _USUAL.finditer(line):
        unit = next(
            (u for u in UNITS if match[f"{u}_after"] or match[f"{u}_before"]),
            None,
        )
        value = _float(next(text for text in _numbers(match) if text))
        if unit is None:
            if value:
                found.append((STEPS, 1 / value))
        elif value is not None:
            found.append((unit, value * _THOUSANDS.get(match["many"] or "", 1.0)))
    return found


def _numbers(match: re.Match[str]) -> list[str]:
    named = set(match.re.groupindex.values())
    return [match[place] for place in range(1, match.re.groups + 1) if place not in named]


def _float(text: str | None) -> float | None:
    try:
        value = float((text or "").replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


class Reader:
    """Takes the bytes of all logs, and keeps the numbers in them."""

    def __init__(self, own: re.Pattern[str] | None = None) -> None:
        self.numbers: list[Number] = []
        self.unreadable = ""  # the last match of the user's pattern that is no number
        self._own = own
        self._rest: dict[str, bytes] = {}

    def feed(self, log: str, data: bytes, when: float) -> None:
        """Take new bytes of a log such as ``attempt-0/rank-3.err``, which arrived at ``when``.

        A carriage return ends a line as well: progress bars print nothing else.
        """
        key = key_of(log)
        if key is None:
            return
        *lines, rest = (self._rest.get(log, b"") + data).replace(b"\r", b"\n").split(b"\n")
        self._rest[log] = rest[:LONGEST]
        for line in lines:
            if line:
                self._line(key, line[:LONGEST].decode("utf-8", "replace"), when)

    def finish(self, when: float) -> None:
        """Take the rest of each log as a line, now that the logs have ended."""
        for log in list(self._rest):
            self.feed(log, b"\n", when)

    def _line(self, key: str, line: str, when: float) -> None:
        if self._own is None:
            self.numbers += [Number(when, key, unit, value) for unit, value in usual(line)]
            return
        for match in self._own.finditer(line):
            value = _float(match[1])
            if value is None:
                self.unreadable = match[1] or ""
            else:
                self.numbers.append(Number(when, key, unit_of(self._own), value))


def unit_of(own: re.Pattern[str]) -> str:
    """Return the unit that a user's pattern names, as in ``samples/s: (.*)``; else WORK."""
    shown = own.pattern.replace("\\", "").lower()
    for unit, words in _COUNTED:
        if re.search(rf"(?<![a-z])(?:{words}){_A_SECOND}", shown):
            return unit
    return WORK


def key_of(log: str) -> str | None:
    """Return the process that a log belongs to, such as ``rank-3``; None for any other file."""
    stem = log.rpartition("/")[2].rpartition(".")[0]
    return stem if _process(stem) else None


def _process(key: str) -> ProcessKey | None:
    """Return the process that a key names; None for numbers from elsewhere, such as scalars."""
    try:
        return ProcessKey.parse(key)
    except ValueError:
        return None


def rate(
    numbers: Sequence[Number],
    layout: Layout,
    warmup: float,
    per_rank: bool = False,
    unit: str | None = None,
) -> Rate:
    """Return the rate of a job in one trial: the median of the numbers printed later than ``warmup``
    seconds after the first one.

    A number is taken as the whole job's, from the lowest rank that prints any. With ``per_rank`` it is
    one rank's own: the medians are added up, and ranks that print none count as equally fast.

    Raises NoRate.
    """
    unit = unit or next((u for u in (*UNITS, WORK) if any(n.unit == u for n in numbers)), None)
    ours = [number for number in numbers if number.unit == unit]
    if unit is None or not ours:
        raise NoRate(f"no {unit or 'rate, such as samples'}/s found in the output")
    begin = min(number.when for number in ours) + warmup
    by_key: dict[str, list[float]] = {}
    for number in ours:
        if number.when >= begin:
            by_key.setdefault(number.key, []).append(number.value)
    if not by_key:
        count = "the only number" if len(ours) == 1 else f"all {len(ours)} numbers"
        raise NoRate(f"{count} came within the warm-up of {warmup:g} s")
    keys = sorted(by_key, key=_order)
    first = by_key[keys[0]]
    value, note = statistics.median(first), ""
    if per_rank:
        value, note = _of_all(keys, by_key, layout)
    if value <= 0:
        raise NoRate(f"the {unit}/s in the output are 0")
    return Rate(value, unit, sum(map(len, by_key.values())), spread(first), note)


def _of_all(
    keys: Sequence[str], by_key: dict[str, list[float]], layout: Layout
) -> tuple[float, str]:
    group = _group(keys[0])
    medians = [statistics.median(by_key[key]) for key in keys if _group(key) == group]
    of_nodes = group == ProcessKind.NODE
    many = layout.num_nodes if of_nodes else layout.world_size
    if len(medians) >= many:
        return sum(medians), ""
    whose = "nodes" if of_nodes else "ranks"
    return statistics.fmean(medians) * many, f"{len(medians)} of {many} {whose} printed it"


def _group(key: str) -> str:
    process = _process(key)
    return process.group if process else key


def _order(key: str) -> tuple[bool, bool, int]:
    """Sort ranks by number, then nodes, then everything else that has a log."""
    process = _process(key)
    if process is None:
        return True, True, 0
    return process.kind != ProcessKind.RANK, process.kind != ProcessKind.NODE, process.index


def spread(values: Sequence[float]) -> float:
    """Return half the distance between the quartiles, as a part of the median; 0 below 4 values."""
    middle = statistics.median(values)
    if len(values) < 4 or middle <= 0:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2 / middle


def of_steps(points: Sequence[tuple[float, int]], key: str) -> list[Number]:
    """Return the steps per second between the points ``(time, step)`` of a scalar."""
    found = []
    for (before, first), (after, last) in itertools.pairwise(points):
        if after > before and last > first:
            found.append(Number(after, key, STEPS, (last - first) / (after - before)))
    return found
