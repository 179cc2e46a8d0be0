"""What a run printed last, and how far it says that it is: for lists of runs, so little is read."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ..spec.files import open_plain
from ..spec.frozen import frozen
from .scalars import logs_of

#: Bytes of a log's end that are read, lines of it in which progress is looked for, and characters of a
#: line that are kept.
TAIL, LINES, LONGEST = 1 << 13, 20, 300
#: Logs of which one may have the last line, those of the latest attempt first.
LOGS = 256

#: Sequences that move or colour (ECMA-48), and titles.
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b.")
#: Percents beside a bar that is drawn, as other ones are as often accuracies: "45%|##  |" as tqdm,
#: whose bar is empty at first, "45% [==>  ]" as wget, "[==>  ] 45%" as click, and "━━━━ 45%" as rich.
_PERCENT = r"(\d{1,3}(?:\.\d+)?)\s?%"
_CELLS, _BRACKETED = "█▏▎▍▌▋▊▉░▒▓━╸╺", r"\[[█=#>*. -]{4,}\]"
_BAR = re.compile(
    rf"(?<![\d.]){_PERCENT}(?:\s?\|(?:[{_CELLS}]+|(?=[^|]{{2}})[#=>]+\d?) *\|"
    rf"|\|\d? +\| *[\d.]+\w?/|\s?{_BRACKETED})"
    rf"|(?:{_BRACKETED}|[{_CELLS}]{{2}}|\#{{2}}|={{3}}>?)\s*{_PERCENT}"
)
#: "step 40/1000", "Epoch [3/10]", "iteration: 40 of 1000".
_PART = re.compile(
    r"(?i)\b(epochs?|steps?|iter(?:ation)?s?|batch(?:es)?|it|round|trial)\b[\s:=]{0,3}[\[(]?\s?"
    r"(\d[\d,]{0,14})\s?(?:/|of)\s?(\d[\d,]{0,14})"
)


@frozen
class Latest:
    """The ``line`` that came last from any process, and the share of its work that a run says is done,
    from 0 to 1; None where it says nothing of it."""

    line: str = ""
    progress: float | None = None


def last_line(run: Path) -> Latest:
    """Return what the processes of the latest attempt printed last. Raises nothing."""
    stamped = []
    for order, (path, _) in enumerate(logs_of(run, LOGS)):
        try:
            facts = os.stat(path, follow_symlinks=False)
        except OSError:
            continue
        if facts.st_size and stat.S_ISREG(facts.st_mode):
            stamped.append((path.parent.name, facts.st_mtime_ns, -order, path))
    if not stamped:
        return Latest()
    latest = max((_number(attempt) for attempt, *_ in stamped), default=0)
    found = [one for one in stamped if _number(one[0]) == latest]
    lines = _lines(max(found, key=lambda one: one[1:3])[3])
    lowest = min(-order for _, _, order, _ in found)  # the first process, which others go on with
    said = progress(lines)
    if said is None:
        first = next(path for _, _, order, path in found if -order == lowest)
        said = progress(_lines(first))
    return Latest(lines[-1] if lines else "", said)


def progress(lines: list[str]) -> float | None:
    """Return the share that is done, as the last of some lines to say so has it."""
    for line in reversed(lines[-LINES:]):
        if (share := _share(line)) is not None:
            return share
    return None


def _share(line: str) -> float | None:
    """Return the share that a line tells of; steps are those of the epoch that it names before them."""
    parts = []
    for word, done, whole in _PART.findall(line):
        of = int(whole.replace(",", ""))
        if of:
            parts.append((word.lower().startswith("epoch"), int(done.replace(",", "")), of))
    bar = _BAR.search(line)
    inner = min(1.0, float(bar[1] or bar[2]) / 100) if bar else None
    if not parts:
        return inner
    is_epoch, done, of = parts[0]
    if is_epoch and len(parts) > 1:
        inner = min(1.0, parts[1][1] / parts[1][2])
    if is_epoch and inner is not None:
        return min(1.0, max(0, done - 1 + inner) / of)
    return min(1.0, done / of)


def _lines(path: Path) -> list[str]:
    """Return the last lines of a log that say anything, as a terminal would show them."""
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - TAIL))
            text = file.read(TAIL).decode("utf-8", "replace")
    except OSError:
        return []
    if size <= TAIL:
        return _shown(text)
    half, newline, rest = text.partition("\n")
    redrawn = half.partition("\r")[2]  # what comes before has no beginning
    return _shown(redrawn + newline + rest) or _shown(half)


def _shown(text: str) -> list[str]:
    lines = (_SEQUENCE.sub("", line.rstrip("\r").rpartition("\r")[2]) for line in text.split("\n"))
    plain = ("".join(c for c in line.expandtabs(4) if c.isprintable()).strip() for line in lines)
    return [line[:LONGEST] for line in plain if line]


def _number(attempt: str) -> int:
    return int(attempt.rpartition("-")[2])
