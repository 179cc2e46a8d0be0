"""Progress bars of many ranks as one line: numbers that differ become ranges. Pure.

A bar is a line that its process writes over itself, with carriage returns, as tqdm does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ...spec.frozen import frozen

#: A time, a number, or what tqdm shows before it knows one.
_NUMBER = re.compile(r"\d+(?::\d\d)+|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\?")
#: What tqdm draws between its two lines.
_DRAWING = re.compile(r"\|[^|]*\|")
_PER_CENT = re.compile(r"(\d+(?:\.\d+)?) ?%")


@frozen
class Bars:
    """Bars that are alike, as one: the ``sources`` that have one, the text, and who is behind."""

    sources: tuple[int, ...]
    text: str
    slowest: int | None = None


def shape(text: str) -> str:
    """Return what bars of one kind have in common: all but numbers and the drawing."""
    return " ".join(_NUMBER.sub("#", _DRAWING.sub("|", text)).split())


def merged(texts: Sequence[str]) -> str:
    """Return bars of one shape as one: ``42-50% 42-50/100 [00:03<00:05, 13.1-13.4it/s]``."""
    if len(set(texts)) == 1:
        return texts[0]
    plain = [_DRAWING.sub("", text) for text in texts]
    numbers = zip(*(_NUMBER.findall(text) for text in plain), strict=True)
    ranges = map(_range, numbers)
    return " ".join(_NUMBER.sub(lambda _: next(ranges), plain[0]).split())


def _range(numbers: Sequence[str]) -> str:
    """Return ``13.1-13.4``; of times the latest, so that the line stays short."""
    known = sorted({number for number in numbers if number != "?"}, key=_value)
    if not known:
        return "?"
    if len(known) == 1 or any(":" in number for number in known):
        return known[-1]
    return f"{known[0]}-{known[-1]}"


def _value(number: str) -> float:
    value = 0.0
    for part in number.split(":"):
        value = value * 60 + float(part)
    return value


def folded(texts: Mapping[int, str]) -> Bars | None:
    """Return the bars of sources as one; of several kinds, those that most sources have."""
    kinds: dict[str, list[int]] = {}
    for source, text in texts.items():
        kinds.setdefault(shape(text), []).append(source)
    if not kinds:
        return None
    sources = max(kinds.values(), key=len)
    return Bars(tuple(sources), merged([texts[s] for s in sources]), _slowest(texts, sources))


def _slowest(texts: Mapping[int, str], sources: Sequence[int]) -> int | None:
    found = {s: float(match[1]) for s in sources if (match := _PER_CENT.search(texts[s]))}
    if len(set(found.values())) < 2:
        return None
    return min(found, key=lambda source: found[source])
