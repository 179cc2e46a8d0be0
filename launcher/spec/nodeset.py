"""Sets of names and ranks in ClusterShell's notation: ``gpu[01-08,12]``, ``0-3,7``.

ClusterShell is imported only for more than one name: that takes as long as connecting to a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ONE_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")
#: The most hosts in one inventory or nodeset: a range is expanded before it can be counted.
MOST = 4096
_RANGE = re.compile(r"(\d{1,18})-(\d{1,18})")
_DIGITS = re.compile(r"([0-9]{1,18})")


def expand(text: str) -> tuple[str, ...]:
    """Return the names in a nodeset, in its order. Raises ValueError if it is not a nodeset."""
    if _ONE_NAME.match(text):
        return (text,)
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    if _size(text) > MOST:
        raise ValueError(f"a nodeset of more than {MOST} names: {text[:60]!r}")
    try:
        return tuple(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except (NodeSetException, ValueError) as error:
        raise ValueError(f"not a nodeset: {text!r} ({error})") from None


def _size(text: str) -> int:
    """Return an upper bound for the names in a nodeset, without expanding it."""
    size = 1
    for inside in re.findall(r"\[([^\[\]]*)\]", text):
        parts = [_RANGE.match(part.strip()) for part in inside.split(",")]
        size *= sum(max(0, int(p[2]) - int(p[1])) + 1 if p else 1 for p in parts) or 1
        if size > MOST:
            break
    return size


def fold(names: Iterable[str]) -> str:
    """Return the shortest nodeset for some names."""
    several = list(names)
    if len(several) == 1:
        return several[0]
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    return str(NodeSet.fromlist(several, resolver=RESOLVER_NOGROUP))


def ordered(names: Iterable[str]) -> list[str]:
    """Return names in the order of a person: gpu2 before gpu10."""
    return sorted(names, key=_natural)


def _natural(name: str) -> list[str | int]:
    parts = _DIGITS.split(name)
    return [int(part) if n % 2 else part for n, part in enumerate(parts)]


def fold_ranks(ranks: Iterable[int]) -> str:
    """Return ``0-3,7`` for ranks 0, 1, 2, 3 and 7."""
    from ClusterShell.RangeSet import RangeSet, RangeSetException

    texts = [str(rank) for rank in ranks]
    try:
        return str(RangeSet.fromlist(texts))
    except RangeSetException:  # a damaged record may name numbers of any length
        return ",".join(texts)


def expand_ranks(text: str) -> frozenset[int]:
    """Return the ranks in ``0-3,7``. Raises ValueError."""
    from ClusterShell.RangeSet import RangeSet, RangeSetException

    try:
        return frozenset(int(rank) for rank in RangeSet(text))
    except (RangeSetException, ValueError):
        raise ValueError(f"not a set of ranks: {text!r} (0,3-5)") from None


def split_terms(text: str) -> list[str]:
    """Split ``a[1,2],b`` at the commas outside brackets."""
    terms = []
    depth = 0
    current = ""
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            terms.append(current.strip())
            current = ""
        else:
            current += letter
    return [term for term in [*terms, current.strip()] if term]
