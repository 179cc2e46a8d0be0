"""Fill in placeholders such as ``{{rank}}`` in arguments and variables.

A backslash in front (``\\{{rank}}``) passes a placeholder on unchanged; text that cannot be one,
such as ``{{.Names}}``, needs none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from ..spec.addresses import bracketed
from ..spec.errors import InputError, suggestion

#: What each placeholder means; ``host`` takes a process: ``{{host:worker.2}}``, ``{{host:node.1}}``.
MEANINGS: Mapping[str, str] = {
    "rank": "number of the process in the run",
    "local_rank": "number of the process on its host",
    "node_rank": "number of the host",
    "rank_offset": "rank of the first process on the host",
    "local_world_size": "number of processes on the host",
    "world_size": "number of processes in the run",
    "num_nodes": "number of hosts",
    "master_addr": "address of the first host",
    "master_port": "port on the first host",
    "data": "folder of a data set: `{{data.NAME}}`",
    "outputs": "folder whose files are brought back",
    "role": "role of the process",
    "index": "number of the process in its role",
    "host": "address of a process's host",
}
#: Known only to the rank, if the framework starts the ranks of a node.
OF_A_RANK = frozenset({"rank", "local_rank"})

#: Those that are addresses.
ADDRESSES = frozenset({"master_addr", "host"})

PLACEHOLDER = re.compile(r"\\?\{\{\s*(data\.[\w-]+|[A-Za-z_]\w*)\s*(?::\s*([^{}\s]*)\s*)?\}\}")


def problem(text: str) -> tuple[str, str] | None:
    """Return what is wrong with the placeholders of a text, and a hint; None if nothing is."""
    for match in PLACEHOLDER.finditer(text):
        name, argument = match[1], match[2]
        if match[0].startswith("\\"):
            continue
        if name.startswith("data."):
            continue
        if name == "data":
            return f"{match[0]} is malformed", "write {{data.NAME}}"
        if name not in MEANINGS:
            known = suggestion(name, tuple(MEANINGS)) or f"known: {', '.join(MEANINGS)}"
            hint = f"{known}; write \\{match[0]} to pass it on unchanged"
            return f"unknown placeholder {match[0]}", hint
        if (argument is not None) != (name == "host") or argument == "":
            example = "{{host:worker.2}}" if name == "host" else f"{{{{{name}}}}}"
            return f"{match[0]} is malformed", f"write {example}"
    return None


def check(words: Iterable[str]) -> None:
    """Raise InputError for the first unknown placeholder."""
    for number, word in enumerate(words):
        if found := problem(word):
            raise InputError(f"run, word {number + 1}: {found[0]}", found[1])


def used(words: Iterable[str]) -> frozenset[str]:
    """Return the names of the placeholders in these words."""
    found = (match for word in words for match in PLACEHOLDER.finditer(word))
    return frozenset(match[1] for match in found if not match[0].startswith("\\"))


def render(
    words: Iterable[str],
    values: Mapping[str, str],
    host: Callable[[str], str],
    later: Collection[str] = (),
) -> tuple[str, ...]:
    """Return the words with placeholders filled in; ``host`` returns the address for ``{{host:...}}``.

    An IPv6 address gets brackets where a colon follows. If the words use one of ``later``, those and
    escaped placeholders stay for the shim. Raises InputError for a placeholder without a value.
    """
    words = tuple(words)
    keeps = bool(used(words) & set(later))

    def filled(match: re.Match[str]) -> str:
        name, argument = match[1], match[2]
        if match[0].startswith("\\"):
            return match[0] if keeps else match[0][1:]
        if name in later:
            return match[0]
        if name != "host" and name not in values:
            raise InputError(*(problem(match[0]) or _no_value(match[0])))
        value = host(argument or "") if name == "host" else values[name]
        is_followed = match.string[match.end() : match.end() + 1] == ":"
        return bracketed(value) if is_followed and name in ADDRESSES else value

    return tuple(PLACEHOLDER.sub(filled, word) for word in words)


def _no_value(placeholder: str) -> tuple[str, str]:
    if "data." in placeholder:
        return f"{placeholder}: the job has no data set of that name", "add it: --data NAME=SOURCE"
    return (
        f"{placeholder} has no value here",
        "{{role}} and {{index}} need roles: in the job file",
    )
