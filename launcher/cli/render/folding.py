"""Many hosts on one screen: rows and errors that are equal become one, the odd ones first. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

from ...spec import nodeset
from ...spec.errors import HostError
from ...spec.frozen import frozen

T = TypeVar("T")

#: Fewer hosts are listed one by one.
FEW = 8


def groups(items: Sequence[T], keys: Sequence[Hashable]) -> list[list[T]]:
    """Return items with equal keys together: the smallest group first, and else in their order."""
    found: dict[Hashable, list[T]] = {}
    for item, key in zip(items, keys, strict=True):
        found.setdefault(key, []).append(item)
    return sorted(found.values(), key=len)


@frozen
class Said:
    """An error of one or several hosts, as a text and a hint."""

    text: str
    hint: str


def fold_errors(errors: Iterable[HostError]) -> list[Said]:
    """Return errors for people. Those of several hosts with one code are one, in words of the first."""
    by_code: dict[str, list[HostError]] = {}
    for error in errors:
        by_code.setdefault(error.code, []).append(error)
    found = []
    for alike in by_code.values():
        texts = {error.message for error in alike}
        if len(alike) == 1 or (len(texts) > 1 and len(alike) <= 2):
            found += [Said(str(error), error.hint) for error in alike]
            continue
        names = nodeset.fold(dict.fromkeys(error.host for error in alike))
        of_first = f" (as {alike[0].host} says)" if len(texts) > 1 else ""
        found.append(Said(f"{names}: {alike[0].message}{of_first}", alike[0].hint))
    return found
