"""Templates in other tools' tasks: the file's own values, or our placeholders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from ...spec.yaml_document import YamlNode, text
from ..source import entries, unread
from .draft import JobDraft

_TEMPLATE = re.compile(r"\{\{\s*([A-Za-z_][\w.-]*)\s*(?::\s*([^{}\s]*)\s*)?\}\}")


def filled(
    given: str,
    values: Mapping[str, str],
    draft: JobDraft,
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
        draft.note(line, f"{match[0]} is unknown and stays as it is")
        return "\\" + match[0]

    return _TEMPLATE.sub(one, given)


def scalars(node: YamlNode) -> dict[str, str]:
    """The values of a mapping that are texts: what templates are filled in from."""
    return {n: text(v) for n, (_, v) in entries(node).items() if hasattr(v.yaml.value, "strip")}


class Values(dict[str, str]):
    """What templates are filled in from; it remembers which were, so that the rest can be told."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, int] = {}
        self._used: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self._used.add(name)
        return super().__getitem__(name)

    def add(self, draft: JobDraft, node: YamlNode, what: str) -> None:
        """The texts of a mapping; anything else in it is told."""
        known = scalars(node)
        unread(draft, node, tuple(known), what)
        self.update(known)
        self._lines |= {name: line for name, (line, _) in entries(node).items() if name in known}

    def one(self, name: str, value: str, line: int) -> None:
        """A single one."""
        self[name] = value
        self._lines[name] = line

    def tell(self, draft: JobDraft) -> None:
        """Notes those that nothing has asked for."""
        for name, line in self._lines.items():
            if name not in self._used:
                draft.note(line, f"no template uses the value {name[:60]}: left out")
