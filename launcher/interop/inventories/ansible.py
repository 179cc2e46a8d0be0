"""Resolve Ansible's hosts and groups: ranges, nested groups, and the precedence of variables.

Source: Ansible's guide "How to build your inventory". Variables in other files (group_vars,
host_vars) are not read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from ...spec.nodeset import MOST
from ..draft import quoted
from .ansible_vars import Var, is_setting, settings
from .draft import InventoryDraft

#: ``host:22``, ``host[01:08]:22``; not an IPv6 address.
_PORT = re.compile(r"((?:[^:\[\]]|\[[^\[\]]*\])+):(\d+)\Z")
_RANGE = re.compile(r"\[(\w+):(\w+)(?::(\d{1,9}))?\]")


@dataclass
class Group:
    """A group as the file defines it; the numbers are lines."""

    line: int = 0
    hosts: dict[str, int] = field(default_factory=dict)
    children: dict[str, int] = field(default_factory=dict)
    variables: dict[str, Var] = field(default_factory=dict)


@dataclass
class Groups:
    """All groups of a file. ``variables`` are those of single hosts, by host."""

    draft: InventoryDraft
    groups: dict[str, Group] = field(default_factory=dict)
    variables: dict[str, dict[str, Var]] = field(default_factory=dict)

    def group(self, name: str, line: int) -> Group:
        """Return the group of that name, added if it is new. Raises DocumentError on too many groups."""
        if name not in self.groups and len(self.groups) == MOST:
            raise self.draft.error(line, f"more than {MOST} groups")
        return self.groups.setdefault(name, Group(line))

    def host(self, pattern: str, line: int, group: Group) -> list[str]:
        """Add the hosts of a pattern such as ``gpu[01:08]:22`` to a group. Raises DocumentError."""
        port = _PORT.match(pattern)
        words = self._range(port[1] if port else pattern, line)
        names = [self.draft.host(word, line) for word in words]
        for name in names:
            group.hosts.setdefault(name, line)
            own = self.variables.setdefault(name, {})
            if port:
                own["ansible_port"] = Var(port[2], line)
        return names

    def _range(self, pattern: str, line: int) -> list[str]:
        words = [pattern]
        while match := _RANGE.search(words[0]):
            made = _made(match[1], match[2], int(match[3] or 1))
            if not made or len(made) * len(words) > MOST:
                raise self.draft.error(
                    line, f"{quoted(match[0])} is not a range of 1 to {MOST} hosts", "gpu[01:08]"
                )
            words = [word.replace(match[0], value, 1) for word in words for value in made]
        return words

    def finish(self) -> None:
        """Put everything into the draft: groups with the hosts of their children, variables as settings.

        Raises DocumentError.
        """
        order = self._order()
        members: dict[str, dict[str, None]] = {}
        for name in reversed(order):
            group = self.groups[name]
            members[name] = dict.fromkeys(group.hosts)
            for child in group.children:
                members[name].update(members[child])
        shared = {name: self._shared(name) for name in order if self.groups[name].variables}
        for host in self.draft.hosts:
            mine: dict[str, tuple[Var, str]] = {}
            for name, variables in shared.items():
                if name == "all" or host in members[name]:
                    mine |= variables
            mine |= {key: (one, "") for key, one in self.variables.get(host, {}).items()}
            settings(self.draft, host, mine)
        for name in self.groups:
            if name not in ("all", "ungrouped"):
                self.draft.group(name, members[name], self.groups[name].line)

    def _shared(self, name: str) -> dict[str, tuple[Var, str]]:
        """Return the variables of a group that are settings of ours; note the others."""
        variables = self.groups[name].variables
        return {
            key: (one, f"group {name}")
            for key, one in variables.items()
            if is_setting(self.draft, key, one)
        }

    def _order(self) -> list[str]:
        """Return parents before children, then by name; the later group wins. Raises DocumentError.

        Source: Ansible, "How variables are merged".
        """
        parents: dict[str, set[str]] = {name: set() for name in self.groups}
        for name, group in self.groups.items():
            for child, line in group.children.items():
                if child not in parents:
                    raise self.draft.error(line, f"there is no group {quoted(child)}")
                parents[child].add(name)
        depth: dict[str, int] = {}
        try:
            for name in TopologicalSorter(parents).static_order():
                depth[name] = 1 + max((depth[parent] for parent in parents[name]), default=0)
        except CycleError as error:
            circle = error.args[1]
            line = self.groups[circle[1]].children.get(circle[0], self.groups[circle[1]].line)
            shown = " > ".join(reversed(circle[:8]))
            raise self.draft.error(line, f"groups contain each other: {shown}") from None
        return sorted(parents, key=lambda name: (name != "all", depth[name], name))


def _made(first: str, last: str, step: int) -> list[str]:
    """Expand a range; empty if it is invalid. One too large is cut off just above ``MOST``."""
    letters = len(first) == len(last) == 1 and first.isalpha() and last.isalpha()
    if not step or not (letters or (first + last).isdecimal()) or len(last) > 9:
        return []
    if letters:
        return [chr(number) for number in range(ord(first), ord(last) + 1, step)[: MOST + 1]]
    width = len(first) if first.startswith("0") else 0
    return [
        str(number).zfill(width) for number in range(int(first), int(last) + 1, step)[: MOST + 1]
    ]
