"""Resolve groups of node sets that refer to each other, as ClusterShell combines them.

ClusterShell's own resolver evaluates a group again wherever it is named, which a hostile file could
make endless; here each group is evaluated once.
"""

from __future__ import annotations

import re
from graphlib import CycleError, TopologicalSorter

from ..draft import quoted
from ..source import expand
from .draft import InventoryDraft

_GROUP = re.compile(r"@(?:([\w.-]+):)?([\w.-]+)")
#: A term with its operator, applied from left to right: ``,`` union, ``!`` difference, ``&``
#: intersection, ``^`` symmetric difference.
_TERM = re.compile(r"([,\s!&^]*)((?:[^,\s!&^\[]|\[[^\[\]]*\])+)")


def renamed(words: str, source: str) -> str:
    """Rewrite group references as ``@source:group``, or as ``@group`` if ``source`` is empty."""

    def name(match: re.Match[str]) -> str:
        return f"@{match[1] or source}:{match[2]}" if source else f"@{match[2]}"

    return _GROUP.sub(name, words)


def resolve(draft: InventoryDraft, groups: dict[str, tuple[int, str]]) -> None:
    """Add all hosts and groups to ``draft``; each group is given as its line and its node sets.

    Raises DocumentError on unknown groups and on circles.
    """
    needs = {
        name: {m[0][1:] for m in _GROUP.finditer(words)} for name, (_, words) in groups.items()
    }
    try:
        order = list(TopologicalSorter(needs).static_order())
    except CycleError as error:
        circle = [name for name in error.args[1] if name in groups]
        shown = " > ".join(circle[:8])
        raise draft.error(groups[circle[0]][0], f"groups contain each other: {shown}") from None
    members: dict[str, dict[str, None]] = {}
    for name in order:
        if name not in groups:
            line = next(at for other, (at, _) in groups.items() if name in needs[other])
            raise draft.error(line, f"there is no group {quoted('@' + name)}")
        line, words = groups[name]
        members[name] = _evaluate(draft, words, line, members)
    for name, (line, _) in groups.items():
        hosts = [draft.host(host, line) for host in members[name]]
        draft.group(name, hosts, line)


def _evaluate(
    draft: InventoryDraft, words: str, line: int, known: dict[str, dict[str, None]]
) -> dict[str, None]:
    result: dict[str, None] = {}
    rest = _TERM.sub("", words).strip(", \t")
    terms = _TERM.findall(words)
    if rest or any(term[0] == "@" and not _GROUP.fullmatch(term) for _, term in terms):
        raise draft.error(line, f"not a node set: {quoted(words)}", "gpu[01-08],@other!gpu03")
    for operators, term in terms:
        operator = operators.strip(", \t") or ","
        if len(operator) > 1:
            raise draft.error(line, f"{quoted(operator)} cannot combine node sets", ", ! & or ^")
        one = known[term[1:]] if term.startswith("@") else dict.fromkeys(expand(draft, term, line))
        if operator == "!":
            result = {name: None for name in result if name not in one}
        elif operator == "&":
            result = {name: None for name in result if name in one}
        elif operator == "^":
            result = {n: None for n in {**result, **one} if (n in result) != (n in one)}
        else:
            result |= one
    return result
