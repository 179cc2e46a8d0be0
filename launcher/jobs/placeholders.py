"""Fills in ``{{rank}}`` and its like in arguments: what differs from process to process. Pure.

A backslash in front (``\\{{rank}}``) passes a token on as it is; what cannot be one, such as
``{{.Names}}``, needs none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping

from ..spec.errors import InputError, suggestion

#: What each token means; ``host`` takes a process: ``{{host:worker.2}}``, ``{{host:node.1}}``.
TOKENS: Mapping[str, str] = {
    "rank": "number of the process among all",
    "local_rank": "number of the process on its host",
    "node_rank": "number of the host",
    "rank_offset": "rank of the first process of the host",
    "local_world_size": "processes of the host",
    "world_size": "processes in all",
    "num_nodes": "hosts in all",
    "master_addr": "address of the first host",
    "master_port": "port there",
    "outputs": "folder whose files come back",
    "role": "role of the process",
    "index": "number of the process within its role",
    "host": "address of a process's host",
}
#: Known only to each rank where something else starts the ranks of a node.
OF_A_RANK = frozenset({"rank", "local_rank"})

_TOKEN = re.compile(r"\\?\{\{\s*([A-Za-z_]\w*)\s*(?::\s*([^{}\s]*)\s*)?\}\}")


def problem(text: str) -> tuple[str, str] | None:
    """What is wrong with the tokens of a text, and a hint; None when nothing is."""
    for match in _TOKEN.finditer(text):
        name, argument = match[1], match[2]
        if match[0].startswith("\\"):
            continue
        if name not in TOKENS:
            escape = f"\\{match[0]} passes it on as it is"
            close = suggestion(name, tuple(TOKENS))
            return f"unknown token {match[0]}", f"{close or f'known: {_known()}'}; {escape}"
        if (argument is not None) != (name == "host") or argument == "":
            example = "{{host:worker.2}}" if name == "host" else f"{{{{{name}}}}}"
            return f"{match[0]} cannot be understood", f"write {example}"
    return None


def _known() -> str:
    return ", ".join(TOKENS)


def check(words: Iterable[str]) -> None:
    """Raises InputError for the first token that is unknown."""
    for number, word in enumerate(words):
        if found := problem(word):
            raise InputError(f"run, word {number + 1}: {found[0]}", found[1])


def used(words: Iterable[str]) -> frozenset[str]:
    """The names of the tokens in these words."""
    found = (match for word in words for match in _TOKEN.finditer(word))
    return frozenset(match[1] for match in found if not match[0].startswith("\\"))


def render(
    words: Iterable[str],
    values: Mapping[str, str],
    host: Callable[[str], str],
    later: Collection[str] = (),
) -> tuple[str, ...]:
    """The words with their tokens filled in; ``host`` gives the address for ``{{host:...}}``.

    Where one of ``later`` is used, it and what is escaped stay: somebody fills those in who knows.
    Raises InputError for a token that has no value.
    """
    words = tuple(words)
    keeps = bool(used(words) & set(later))

    def filled(match: re.Match[str]) -> str:
        name, argument = match[1], match[2]
        if match[0].startswith("\\"):
            return match[0] if keeps else match[0][1:]
        if name in later:
            return match[0]
        if name == "host":
            return host(argument or "")
        if name not in values:
            raise InputError(*(problem(match[0]) or _no_value(match[0])))
        return values[name]

    return tuple(_TOKEN.sub(filled, word) for word in words)


def _no_value(token: str) -> tuple[str, str]:
    return f"{token} is not known here", "{{role}} and {{index}} need roles: in the job file"
