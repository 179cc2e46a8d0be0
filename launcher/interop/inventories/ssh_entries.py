"""Parse the entries of an ssh_config(5), and find those that apply to a host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..draft import Draft, quoted

_LINE = re.compile(r"([A-Za-z]+)(?:\s*=\s*|\s+)(.+)\Z")


@dataclass
class Entry:
    """The settings ``(key, value, line)`` for some patterns; None for ``Match``, which is not read."""

    patterns: Sequence[str] | None
    settings: list[tuple[str, str, int]]
    line: int = 0

    @property
    def is_general(self) -> bool:
        """Whether it has a wildcard or ``!``, and so has to be matched against every host."""
        return any(set("*?!") & set(pattern) for pattern in self.patterns or ())


class Entries(list[Entry]):
    """All entries of a file, in its order."""

    def __init__(self, draft: Draft) -> None:
        super().__init__()
        self._draft = draft

    @cached_property
    def _by_name(self) -> dict[str, list[int]]:
        """The numbers of the entries that name a host without a wildcard."""
        named: dict[str, list[int]] = {}
        for number, entry in enumerate(self):
            for name in () if entry.is_general else entry.patterns or ():
                named.setdefault(name, []).append(number)
        return named

    @cached_property
    def _general(self) -> list[int]:
        return [number for number, entry in enumerate(self) if entry.is_general]

    def matching(self, host: str) -> Iterator[tuple[str, str, int]]:
        """Yield the settings that apply to a host, in the order of the file. Raises Unbounded."""
        numbers = set(self._by_name.get(host, ()))
        for number in self._general:
            self._draft.spend(self[number].line, len(self[number].patterns or ()))
            if matches_host(self[number].patterns or (), host):
                numbers.add(number)
        for number in sorted(numbers):
            for setting in self[number].settings:
                self._draft.spend(setting[2])
                yield setting


def parse(text: str, draft: Draft) -> Entries:
    """Return the entries of a file. Raises DocumentError."""
    entries = Entries(draft)
    entries.append(Entry(["*"], []))
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        match = _LINE.match(line)
        if not match:
            raise draft.error(number, f"not a line of an ssh_config: {quoted(line)}", "User me")
        key, value = match[1].lower(), match[2]
        if key == "host":
            entries.append(Entry(_words(value), [], number))
        elif key == "match":
            draft.note(number, "Match is not carried over")
            entries.append(Entry(None, [], number))
        elif key == "include":
            draft.note(number, "Include is not followed: that file is not carried over")
        else:
            words = _words(value)
            one = value if key == "proxycommand" else words[0] if words else ""
            entries[-1].settings.append((key, one, number))
    return entries


def _words(value: str) -> list[str]:
    """Split a value into words; double quotes hold words together, and nothing else is special."""
    parts = re.findall(r'"([^"]*)"|([^\s"]+)', re.sub(r"\s#.*", "", value))
    return [in_quotes or plain for in_quotes, plain in parts]


def matches_host(patterns: Sequence[str], host: str) -> bool:
    """Return whether an entry's patterns match a host; a match of a ``!`` pattern excludes it."""
    if any(matches(host, one[1:]) for one in patterns if one.startswith("!")):
        return False
    return any(matches(host, one) for one in patterns if not one.startswith("!"))


def matches(word: str, pattern: str) -> bool:
    """Return whether a word matches a pattern with ``*`` and ``?``.

    It takes time proportional to the product of their lengths, whatever the pattern.
    """
    if not set("*?") & set(pattern):
        return word == pattern
    at = here = mark = 0
    star = -1
    while at < len(word):
        if here < len(pattern) and pattern[here] in ("?", word[at]) and pattern[here] != "*":
            at, here = at + 1, here + 1
        elif here < len(pattern) and pattern[here] == "*":
            star, mark, here = here, at, here + 1
        elif star >= 0:
            mark += 1
            at, here = mark, star + 1
        else:
            return False
    return set(pattern[here:]) <= {"*"}
