"""Read hostfiles of DeepSpeed, Open MPI, MPICH and Horovod, and plain lists of hosts.

``gpu1 slots=8 max_slots=8``, ``gpu1:8``, ``gpu1:8,gpu2:4`` (horovodrun -H), ``me@gpu1:2222``.
Sources: DeepSpeed's deepspeed/launcher/runner.py; Open MPI, "Scheduling processes across hosts";
MPICH's guide to the Hydra process manager.
"""

from __future__ import annotations

import re

from ...spec import nodeset
from ..draft import quoted
from ..source import Text, expand, login
from .draft import InventoryDraft

_LINE = re.compile(
    r"[\^\[A-Za-z0-9_][^\s=]*"
    r"(\s+(slots|max[-_]slots|count|cpus?|user(name)?|port)(\s*=\s*|\s+)\S+)*\Z"
)
_PAIR = re.compile(r"([a-z_-]+)(?:\s*=\s*|\s+)(\S+)")
#: ``host:22`` and above is a port, below it a number of slots: no host has 22 GPUs.
FIRST_PORT = 22


def recognise(text: Text) -> bool:
    """Return whether every line is a host, with or without slots."""
    lines = text.lines
    return bool(lines) and not text.keys and all(_LINE.match(line) for _, line in lines)


def read(text: Text, draft: InventoryDraft) -> None:
    """Read one or more hosts from every line; slots are GPUs, and add up if a host is listed again."""
    for line, words in text.lines:
        first, _, rest = words.partition(" ")
        if not _LINE.match(words):
            raise draft.error(line, f"not a line of a hostfile: {quoted(words)}", "gpu1 slots=8")
        if first.startswith("^"):
            draft.note(line, "an excluded host (^) is left out")
            continue
        pairs = {key.replace("-", "_"): value for key, value in _PAIR.findall(rest)}
        for term in nodeset.split_terms(first):
            for name in _hosts(draft, term, line):
                _settings(draft, name, line, pairs)


def _hosts(draft: InventoryDraft, term: str, line: int) -> list[str]:
    user, hosts, number = login(term)
    again = set(draft.hosts)
    names = []
    for word in (hosts,) if ":" in hosts else expand(draft, hosts, line):
        name = draft.host(word, line)
        names.append(name)
        if user:
            draft.give(name, "user", user, line)
        if number and (user or int(number) >= FIRST_PORT):
            draft.give(name, "port", number, line)
        elif number:
            draft.note(
                line, f"a number below {FIRST_PORT} after a colon is read as slots, not as a port"
            )
            _slots(draft, name, number, line)
        if name in again:
            draft.note(line, "a host listed again is the same host; its slots are added up")
    return names


def _settings(draft: InventoryDraft, name: str, line: int, pairs: dict[str, str]) -> None:
    for key, value in pairs.items():
        if key in ("slots", "count", "cpu", "cpus"):
            _slots(draft, name, value, line)
        elif key in ("user", "username"):
            draft.give(name, "user", value, line)
        elif key == "port":
            draft.give(name, "port", value, line)
        else:
            draft.note(line, f"{key} is not carried over")


def _slots(draft: InventoryDraft, name: str, slots: str, line: int) -> None:
    before = draft.hosts[name].get("gpus")
    if not re.fullmatch(r"[0-9]{1,6}", slots):
        raise draft.error(line, f"slots is a number, not {quoted(slots)}", "gpu1 slots=8")
    draft.give(name, "gpus", str(int(slots) + (before.value if before else 0)), line)
