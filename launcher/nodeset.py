"""Sets of names and ranks in the notation of ClusterShell: ``gpu[01-08,12]``, ``0-3,7``.

Not responsible for groups and labels: :mod:`launcher.inventory` knows those. ClusterShell is
imported for what is more than one name: that takes as long as connecting to a host.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ONE_NAME = re.compile(r"[A-Za-z0-9_.-]+\Z")


def expand(text: str) -> tuple[str, ...]:
    """The names that a nodeset means, in its order. Raises ValueError when it is not one."""
    if _ONE_NAME.match(text):
        return (text,)
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet, NodeSetException

    try:
        return tuple(NodeSet(text, resolver=RESOLVER_NOGROUP))
    except (NodeSetException, ValueError) as error:
        raise ValueError(f"not a nodeset: {text!r} ({error})") from None


def fold(names: Iterable[str]) -> str:
    """The shortest nodeset of some names."""
    several = list(names)
    if len(several) == 1:
        return several[0]
    from ClusterShell.NodeSet import RESOLVER_NOGROUP, NodeSet

    return str(NodeSet.fromlist(several, resolver=RESOLVER_NOGROUP))


def fold_ranks(ranks: Iterable[int]) -> str:
    """``0-3,7`` for ranks 0, 1, 2, 3 and 7."""
    from ClusterShell.RangeSet import RangeSet

    return str(RangeSet.fromlist([str(rank) for rank in ranks]))


def expand_ranks(text: str) -> frozenset[int]:
    """The ranks of ``0-3,7``. Raises ValueError."""
    from ClusterShell.RangeSet import RangeSet, RangeSetException

    try:
        return frozenset(int(rank) for rank in RangeSet(text))
    except (RangeSetException, ValueError) as error:
        raise ValueError(f"not a set of ranks: {text!r} ({error})") from None


def split_terms(text: str) -> list[str]:
    """The parts of ``a[1,2],b`` between commas that stand outside brackets."""
    terms, depth, current = [], 0, ""
    for letter in text:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            terms.append(current.strip())
            current = ""
        else:
            current += letter
    return [term for term in [*terms, current.strip()] if term]
