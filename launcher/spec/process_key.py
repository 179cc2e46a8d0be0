"""Name the processes of a run; only this module reads and writes the text of their keys."""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

from .frozen import frozen

_TEXT = re.compile(r"([\w-]+)-(\d{1,9})\Z", re.A)


class ProcessKind(StrEnum):
    """What a process is for."""

    RANK = "rank"
    NODE = "node"  # starts the ranks of its node, as torchrun does
    SETUP = "setup"
    ROLE = "role"  # of a role that the user named


#: How the keys of processes without a role begin; roles cannot have these names.
RESERVED = (ProcessKind.RANK, ProcessKind.NODE, ProcessKind.SETUP)


@frozen
class ProcessKey:
    """Which process of a run: ``rank-3``, ``node-0``, ``setup-1``, or ``worker-2`` of a role."""

    kind: ProcessKind
    index: int
    role: str = ""

    def __str__(self) -> str:
        """Return the key as events, logs and hosts write it."""
        return f"{self.role or self.kind}-{self.index}"

    @staticmethod
    def of_rank(rank: int) -> ProcessKey:
        """Return the key of a rank without a role."""
        return ProcessKey(ProcessKind.RANK, rank)

    @staticmethod
    def of_node(node_rank: int) -> ProcessKey:
        """Return the key of the process that starts the ranks of a node."""
        return ProcessKey(ProcessKind.NODE, node_rank)

    @staticmethod
    def of_setup(node_rank: int) -> ProcessKey:
        """Return the key of the job's ``setup`` on a node."""
        return ProcessKey(ProcessKind.SETUP, node_rank)

    @staticmethod
    def of_role(role: str, index: int) -> ProcessKey:
        """Return the key of a process of a role."""
        return ProcessKey(ProcessKind.ROLE, index, role)

    @staticmethod
    def parse(text: str) -> ProcessKey:
        """Return the key with this text. Raises ValueError."""
        return _parse(text)

    @staticmethod
    def kind_of(text: str) -> ProcessKind | None:
        """Return what the process with this key is for; None for text that is no key."""
        try:
            return _parse(text).kind
        except ValueError:
            return None

    @staticmethod
    def group_of(text: str) -> str:
        """Return the group of a key; text that is no key is a group of its own."""
        try:
            return _parse(text).group
        except ValueError:
            return text

    @property
    def group(self) -> str:
        """The role, or the kind of a process without one."""
        return self.role or self.kind


@lru_cache(maxsize=4096)
def _parse(text: str) -> ProcessKey:
    match = _TEXT.match(text)
    if match is None:
        raise ValueError(f"not the key of a process: {text!r}")
    name, index = match[1], int(match[2])
    if name in RESERVED:
        return ProcessKey(ProcessKind(name), index)
    return ProcessKey(ProcessKind.ROLE, index, name)
