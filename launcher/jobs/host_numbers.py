"""Find options by which a command says which of several hosts it is on: ``--machine-rank 0``. Pure.

Projects write such a line once for each host. launcher starts one line on all hosts, where each of them
would take itself for the same one, and wait for the others.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from ..spec.frozen import frozen
from . import shell_commands, wrapped_commands

#: By the option that has the number of a host or rank: those that say how many there are.
_PAIRS = {
    "machine_rank": ("num_machines",),
    "node_rank": ("nnodes", "num_nodes", "nnode", "nodes"),
    "shard_id": ("num_shards",),
    "rank": ("world_size",),
    "distributed_rank": ("distributed_world_size",),
    "process_id": ("num_processes",),
}
#: Those of ranks, where each process has a number of its own.
_OF_RANKS = ("rank", "distributed_rank", "process_id")
_ADDRESS, _PORT = "{{master_addr}}", "{{master_port}}"
#: What stands in place of an address that a command names.
_MEETINGS = {
    **dict.fromkeys(("dist_url", "init_method", "distributed_init_method", "dist_init_method"), ""),
    **dict.fromkeys(("dist_init_addr", "coordinator_address"), f"{_ADDRESS}:{_PORT}"),
    **dict.fromkeys(("master_addr", "master_ip", "master_address"), _ADDRESS),
    **dict.fromkeys(("master_port", "distributed_port"), _PORT),
}
#: How a script of detectron2's kind is told of the other hosts.
MACHINES = (
    ", with --num-machines '{{num_nodes}}' --machine-rank '{{node_rank}}' "
    f"--dist-url 'tcp://{_ADDRESS}:{_PORT}'"
)
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_URL = re.compile(r"tcp://\[?[\w.:-]+?\]?:\w+")


@frozen
class Numbered:
    """A command for one of ``count``: the option that says so, as it was written, and ``instead`` the
    same for all hosts."""

    option: str
    number: int
    count: int
    of_ranks: bool
    instead: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command for all hosts, as it is typed."""
        return " ".join(
            shlex.quote(word) if "{{" not in word else f"'{word}'" for word in self.instead
        )


def numbered(words: Sequence[str]) -> Numbered | None:
    """Return what says that a command is for one of several hosts; None for one for all of them."""
    values = {name: value for _, name, value, _ in _options(words)}
    for name, counts in _PAIRS.items():
        total = next((values[count] for count in counts if count in values), "")
        if _is_number(values.get(name, "")) and _is_number(total) and int(total) > 1:
            break
    else:
        return None
    of_ranks = name in _OF_RANKS and not any("multiprocessing_distributed" in one for one in values)
    own, all_of = ("{{rank}}", "{{world_size}}") if of_ranks else ("{{node_rank}}", "{{num_nodes}}")
    new = {name: own, **dict.fromkeys(counts, all_of)}
    instead = list(words)
    option = ""
    for at, found, value, is_apart in _options(words):
        written = words[at] if not is_apart else f"{words[at]} {words[at + 1]}"
        option = written if found == name else option
        filled = new.get(found) or _MEETINGS.get(found)
        if found in _MEETINGS and not filled:
            filled = f"tcp://{_ADDRESS}:{_PORT}" if _URL.match(value) else None
        if filled:
            place = at + 1 if is_apart else at
            front = "" if is_apart else words[at].partition("=")[0] + "="
            instead[place] = front + filled
    return Numbered(option, int(values[name]), int(total), of_ranks, tuple(instead))


def in_script(text: str) -> tuple[int, Numbered] | None:
    """Return the first command of a shell script that is for one host, with its line; None for none.

    A script that starts several of them starts all hosts' itself.
    """
    variables: dict[str, str] = {}
    found = []
    for line, words in shell_commands.commands(text):
        command = wrapped_commands.program_of(words, variables)
        filled = [_VARIABLE.sub(lambda m: variables.get(m[1], m[0]), word) for word in command]
        if one := numbered(filled):
            found.append((line, one))
    return found[0] if len({one.number for _, one in found}) == 1 else None


def _options(words: Sequence[str]) -> list[tuple[int, str, str, bool]]:
    """Return options with a value: their place, name, value, and whether that is a word of its own."""
    found = []
    for at, word in enumerate(words):
        if not re.match(r"--?[A-Za-z]", word):
            continue
        name, equals, value = word.partition("=")
        name = name.lstrip("-").replace("-", "_")
        if equals:
            found.append((at, name, value, False))
        elif at + 1 < len(words) and not words[at + 1].startswith("-"):
            found.append((at, name, words[at + 1], True))
        else:
            found.append((at, name, "", False))
    return found


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()
