"""Read Ansible inventories in INI.

Source: the documentation of Ansible's inventory plugin ``ansible.builtin.ini``.
"""

from __future__ import annotations

import re
import shlex

from ..draft import quoted
from ..source import Text
from .ansible import Group, Groups
from .ansible_vars import Var
from .draft import InventoryDraft

_SECTION = re.compile(r"\[([^\]\s:]+)(?::(vars|children|hosts))?\]\s*(?:[#;].*)?\Z")
_PAIR = re.compile(r"([A-Za-z_][\w-]*)\s*=\s*(.*)\Z", re.DOTALL)


def recognise(content: Text) -> bool:
    """Return whether it has sections, or hosts with variables ``ansible_...``."""
    return not content.keys and any(
        _SECTION.match(line) or re.search(r"\sansible_\w+\s*=", line) for _, line in content.lines
    )


def read(content: Text, draft: InventoryDraft) -> None:
    """Read hosts, sections and variables; hosts before the first section are ungrouped."""
    groups = Groups(draft)
    groups.group("all", 0)
    group, kind = groups.group("ungrouped", 0), "hosts"
    for line, raw in enumerate(content.content.split("\n"), 1):
        text = raw.strip()
        if not text or text[0] in "#;":
            continue
        if match := _SECTION.match(text):
            group, kind = groups.group(match[1], line), match[2] or "hosts"
        elif text.startswith("[") and "]:" not in text:
            raise draft.error(line, f"not a section: {quoted(text)}", "[gpu], [gpu:vars]")
        elif kind == "vars":
            _variable(draft, group, text, line)
        elif kind == "children":
            group.children[_words(draft, text, line)[0]] = line
        else:
            _host(groups, group, text, line)
    groups.finish()


def _words(draft: InventoryDraft, text: str, line: int) -> list[str]:
    try:
        words = shlex.split(text, comments=True)
    except ValueError as error:
        raise draft.error(line, f"{error}: {quoted(text)}") from None
    if not words:
        raise draft.error(line, f"expected a name, found {quoted(text)}")
    return words


def _variable(draft: InventoryDraft, group: Group, text: str, line: int) -> None:
    match = _PAIR.match(text)
    if not match:
        raise draft.error(line, f"expected name=value, found {quoted(text)}")
    group.variables[match[1]] = Var(_literal(match[2]), line)


def _host(groups: Groups, group: Group, text: str, line: int) -> None:
    words = _words(groups.draft, text, line)
    variables = {}
    for word in words[1:]:
        match = _PAIR.match(word)
        if not match:
            raise groups.draft.error(line, f"expected name=value, found {quoted(word)}")
        variables[match[1]] = Var(_literal(match[2]), line)
    for host in groups.host(words[0], line, group):
        groups.variables[host].update(variables)


def _literal(text: str) -> str:
    """Strip the quotes of a Python string literal, as Ansible does, without evaluating anything."""
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
        return text[1:-1]
    return text
