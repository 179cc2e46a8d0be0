"""Templates in other people's tasks: their values where the file has them, ours where we have a token.

Not responsible for which of their names mean which of ours: each format says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ..document import Node, text
from ..imports.text import entries
from .found import Task

_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*(?::\s*([^{}\s]*)\s*)?\}\}")


def filled(
    given: str,
    values: Mapping[str, str],
    task: Task,
    line: int,
    ours: Callable[[str, str | None], str | None] = lambda name, argument: None,
) -> str:
    """A text with its templates filled in from ``values``, or else replaced by what ``ours`` says;
    one that nobody knows stays as it is, with a note."""

    def one(match: re.Match[str]) -> str:
        name, argument = match[1], match[2]
        for key in (name, name.rpartition(".")[2]):
            if argument is None and key in values:
                return values[key]
        found = ours(name, argument)
        if found is not None:
            return found
        task.note(line, f"nobody here fills in {match[0]}: it stays as it is")
        return "\\" + match[0]

    return _TEMPLATE.sub(one, given)


def scalars(node: Node) -> dict[str, str]:
    """The values of a mapping that are texts: what templates are filled in from."""
    return {n: text(v) for n, (_, v) in entries(node).items() if hasattr(v.yaml.value, "strip")}
