"""Fill in templates of foreign tasks, with the file's own values or with our placeholders."""

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
    """Fill in the templates of a text, from ``values`` or else by ``ours(name, argument)``.

    An unknown template stays as it is, with a note.
    """

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
    """Return the values of a mapping that are texts; others are skipped."""
    return {n: text(v) for n, (_, v) in entries(node).items() if hasattr(v.yaml.value, "strip")}


class Values(dict[str, str]):
    """Values for templates; it remembers which were used, so that the others can be noted."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: dict[str, int] = {}
        self._used: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self._used.add(name)
        return super().__getitem__(name)

    def add(self, draft: JobDraft, node: YamlNode, what: str) -> None:
        """Add the texts of a mapping, and note anything else in it."""
        known = scalars(node)
        unread(draft, node, tuple(known), what)
        self.update(known)
        self._lines |= {name: line for name, (line, _) in entries(node).items() if name in known}

    def one(self, name: str, value: str, line: int) -> None:
        """Add a single value."""
        self[name] = value
        self._lines[name] = line

    def note_unused(self, draft: JobDraft) -> None:
        """Note the values that no template has used."""
        for name, line in self._lines.items():
            if name not in self._used:
                draft.note(line, f"no template uses the value {name[:60]}: left out")
