"""Read the simple commands of a shell script."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

#: Most lines of a list: each of them has the list read again.
LONGEST_LIST = 200
_HERE = re.compile(r"<<-?\s*(['\"\\]?)(\w+)\1")


def commands(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Return the simple commands of a shell script with their lines; here documents are none. The words
    of a list are one text behind its name: ``A=(b c)`` is ``A=b c``."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        first = at
        joined, tokens, at = _joined(lines, at)
        if tokens is None:
            return
        if _is_in_list(tokens):
            more, whole, end = _joined(lines, first, is_list=True)
            if whole is not None:
                joined, tokens, at = more, whole, end
        if match := _HERE.search(joined):
            while at < len(lines) and lines[at].strip() != match[2]:
                at += 1
            at += 1
        for command in _split(tokens):
            yield first + 1, command


def _joined(lines: list[str], at: int, is_list: bool = False) -> tuple[str, list[str] | None, int]:
    """Return a line with those that continue it, its words, and the place behind; None for the words if
    a quote, or with ``is_list`` a list, is still open at the end."""
    end = min(len(lines), at + LONGEST_LIST) if is_list else len(lines)
    joined, at = lines[at], at + 1
    while True:
        while joined.endswith("\\") and at < len(lines):
            joined, at = joined[:-1] + lines[at], at + 1
        tokens = _tokens(joined)
        if tokens is not None and not (is_list and _is_in_list(tokens)):
            return joined, tokens, at
        if at >= end:
            return joined, None, at
        joined, at = f"{joined}\n{lines[at]}", at + 1


def _tokens(text: str) -> list[str] | None:
    """Return the words and operators of a line; None if a quote is still open."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars=";&|()")
    lexer.whitespace_split = True
    try:
        return list(lexer)
    except ValueError:
        return None


def _is_in_list(tokens: list[str]) -> bool:
    """Return whether a list has begun, and not ended: ``NAME=(a``."""
    in_list, before = False, ""
    for token in tokens:
        in_list = ")" not in token if in_list else token == "(" and before.endswith("=")
        before = token
    return in_list


def _split(tokens: list[str]) -> Iterator[tuple[str, ...]]:
    words: list[str] = []
    in_list = False
    for token in tokens:
        if in_list:  # NAME=(a b c)
            in_list = ")" not in token
            words[-1] += f"{token} " if in_list else ""
        elif token and not set(token) - set(";&|()"):
            in_list = token == "(" and bool(words) and words[-1].endswith("=")
            if in_list:
                continue
            # `name)` is a pattern of case
            if words and not (token.startswith(")") and len(words) == 1):
                yield tuple(words)
            words = []
        else:
            words.append(token)
    if words:
        yield tuple(words)
