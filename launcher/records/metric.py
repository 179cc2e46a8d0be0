"""The value of a trial: the last number that a pattern finds in the logs of its run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

#: Bytes of a log's end that are searched, and how many are read at once.
SEARCHED, PIECE = 64 << 20, 1 << 18
#: Bytes of a line that are searched.
LONGEST = 1 << 14

_PLACE = re.compile(r"attempt-(\d+)/(?:.*?)(\d*)\.(out|err)\Z")


def last_value(run: Path, pattern: str) -> float | None:
    """Return the last number that a pattern with one group finds, or None.

    The logs of the last attempt are searched, those of rank 0 first, stdout before stderr: the first
    one with a number counts.
    """
    compiled = re.compile(pattern.encode())
    for log in logs(run):
        for line in _lines_from_the_end(log):
            found = [number_in(match[1]) for match in compiled.finditer(line[:LONGEST])]
            numbers = [number for number in found if number is not None]
            if numbers:
                return numbers[-1]
    return None


#: What programs print about how well they do, as ``val_loss=0.31``, ``'accuracy': 0.9``, ``acc@1 71.2``.
_NAMED = re.compile(
    rb"(?i)(?<![\w/.@-])((?:[a-z0-9]+[_/-])*"
    rb"(?:loss|acc|accuracy|perplexity|ppl|f1|auc|bleu|rouge|miou|reward|score)"
    rb"(?:[_/@-][a-z0-9]+|\d+)*)"
    rb"['\"]?(?:\s*[:=]\s*|\s+)(-?\d[\d,]*(?:\.\d+)?(?:e[-+]?\d+)?)(?![\w.])"
)
#: What each of those names contains: most lines of most logs have none of it.
_PARTS = b"loss acc perplexity ppl f1 auc bleu rouge miou reward score".split()
#: Bytes that are looked through at once for them.
BLOCK = 1 << 15
#: Bytes of a log's end in which such names are looked for, and how many are returned.
TAIL, NAMES = 1 << 18, 12


def last_values(run: Path) -> dict[str, float]:
    """Return the last value of each metric that rank 0 printed in the last attempt, by its name."""
    found: dict[str, float] = {}
    for log in logs(run):
        read = 0
        for line in _lines_from_the_end(log):
            read += len(line) + 1
            if read > TAIL or len(found) >= NAMES:
                break
            for name, number in reversed(named(line)):
                found.setdefault(name, number)
        if found:
            break
    return dict(sorted(found.items())[:NAMES])


def lines_with_names(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield offset and text of the lines in which such a name may be; a carriage return ends one, too.

    Most of a log has no such line: it is looked through in blocks first.
    """
    at = 0
    while at < len(data):
        end = data.find(b"\n", at + BLOCK) + 1 or len(data)
        block = data[at:end]
        low = block.lower()
        if any(part in low for part in _PARTS):
            place = at
            for line in block.replace(b"\r", b"\n").split(b"\n"):
                yield place, line
                place += len(line) + 1
        at = end


def named(line: bytes) -> list[tuple[str, float]]:
    """Return the metrics in a line, by the names that programs usually print."""
    found = ((name.decode(), number_in(text)) for name, text in _NAMED.findall(line[:LONGEST]))
    return [(name, number) for name, number in found if number is not None]


def logs(run: Path) -> list[Path]:
    """Return the logs of the last attempt of a run, in the order in which they count."""
    folder = run / "logs"
    placed = []
    for path in folder.glob("attempt-*/*"):
        if place := _PLACE.search(path.relative_to(folder).as_posix()):
            placed.append(((int(place[1]), -int(place[2] or 0), place[3] == "out"), path))
    latest = max((key[0] for key, _ in placed), default=0)
    return [path for key, path in sorted(placed, reverse=True) if key[0] == latest]


def number_in(text: bytes | None) -> float | None:
    """Return the number in a text, with commas for thousands; None for what is none."""
    try:
        found = float((text or b"").replace(b",", b""))
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _lines_from_the_end(path: Path) -> Iterator[bytes]:
    """Yield the lines of a log, the last one first; a progress bar's carriage returns end lines, too."""
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        at = file.seek(0, 2)
        stop = max(0, at - SEARCHED)
        rest = b""
        while at > stop:
            size = min(PIECE, at - stop)
            at -= size
            file.seek(at)
            lines = (file.read(size) + rest).replace(b"\r", b"\n").split(b"\n")
            rest = lines[0][:PIECE]
            yield from reversed(lines[1:])
        yield rest
