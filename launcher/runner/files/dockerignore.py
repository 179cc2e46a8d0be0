"""What a .dockerignore leaves out of the context of a build, by docker's rules: unlike those of git, a
pattern means a path from the top, and the last one that matches decides. Pure."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from ...spec.frozen import frozen


@frozen
class Pattern:
    """A line: a path is left out, or stays (``!``), if the pattern matches it or a folder above it."""

    text: str
    regex: re.Pattern[str]
    keeps: bool


@frozen
class Ignored:
    """All lines of a .dockerignore."""

    patterns: tuple[Pattern, ...] = ()

    @property
    def brings_back(self) -> bool:
        """Whether something in a folder that is left out may stay."""
        return any(one.keeps for one in self.patterns)

    def leaves_out(self, path: str) -> bool:
        """Return whether a path, relative to the context, is left out."""
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        left_out = False
        for one in self.patterns:
            if one.keeps == left_out and any(map(one.regex.match, above)):
                left_out = not one.keeps
        return left_out


def read(lines: Iterable[str]) -> Ignored:
    """Return the patterns of lines. Raises ValueError with the number of a line that is none."""
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if number == 1:
            text = text.removeprefix("\ufeff")
        if line.startswith("#") or not text:
            continue
        keeps = text.startswith("!")
        text = text.removeprefix("!").strip()
        if not text:
            raise ValueError(number)
        cleaned = posixpath.normpath(text).lstrip("/")
        if cleaned in ("", "."):
            continue
        try:
            found.append(Pattern(cleaned, re.compile(_regex(cleaned), re.S), keeps))
        except re.error:
            raise ValueError(number) from None
    return Ignored(tuple(found))


def _regex(pattern: str) -> str:
    made, at = "", 0
    while at < len(pattern):
        mark = pattern[at]
        at += 1
        if mark == "*" and pattern[at : at + 1] == "*":
            at += 1
            if pattern[at : at + 1] == "/":
                at += 1
            made += "(?:.*/)?" if at < len(pattern) else ".*"
        elif mark == "*":
            made += "[^/]*"
        elif mark == "?":
            made += "[^/]"
        elif mark == "[":
            end = pattern.find("]", at + 1)
            if end < 0:
                raise re.error("unterminated")
            made += "[" + pattern[at:end].replace("[", "\\[") + "]"
            at = end + 1
        elif mark == "\\" and at < len(pattern):
            made += re.escape(pattern[at])
            at += 1
        else:
            made += re.escape(mark)
    return made + r"\Z"
