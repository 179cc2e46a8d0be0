"""Find hosts in files that name some, and write a first inventory of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from textwrap import indent

from ..spec import nodeset
from ..spec.errors import InputError
from ..spec.frozen import frozen
from ..spec.gpus import is_mig
from ..spec.inventory import NAME
from ..spec.model import Facts

_WORD = re.compile(r"(?:(?P<user>[A-Za-z0-9_.-]+)@)?(?P<names>[^@:]+)(?::(?P<port>\d{1,5}))?\Z")
_SLOTS = re.compile(r"(?:slots|max_slots|gpus)=(\d+)\Z")

#: The comment of a host that was not probed.
UNSEEN = "not probed"


@frozen
class Candidate:
    """A host by name, and what is known of it; None: taken from ssh_config or a probe."""

    name: str
    user: str | None = None
    port: int | None = None
    gpus: int | None = None


def from_word(word: str) -> tuple[Candidate, ...]:
    """Read ``[user@]host[:port]``, where host may be a nodeset. Raises InputError."""
    match = _WORD.match(word)
    port = int(match["port"]) if match and match["port"] else None
    try:
        names = nodeset.expand(match["names"]) if match else ()
    except ValueError as error:
        raise InputError(str(error), "a nodeset looks like gpu[01-08,12]") from None
    if not names or not all(map(NAME.match, names)) or not (port is None or 0 < port < 65536):
        raise InputError(
            f"{word!r} is not a host", "write [user@]host[:port] or a nodeset: gpu[01-08]"
        )
    return tuple(Candidate(name, match["user"] if match else None, port) for name in names)


def from_words(text: str) -> tuple[Candidate, ...]:
    """Read several hosts, separated by blanks or commas; duplicates are ignored. Raises InputError."""
    found: dict[str, Candidate] = {}
    for term in nodeset.split_terms(",".join(text.split())):
        for candidate in from_word(term):
            found.setdefault(candidate.name, candidate)
    return tuple(found.values())


def from_hostfile(text: str, source: str) -> tuple[Candidate, ...]:
    """Read a hostfile of MPI or DeepSpeed: ``host``, ``host slots=8`` or ``host:8`` in a line.

    Raises InputError.
    """
    found: list[Candidate] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        name, _, count = words[0].partition(":")
        slots = [match[1] for match in map(_SLOTS.match, words[1:]) if match]
        if count and not count.isdigit():
            raise InputError(f"{source}:{number}: {words[0]!r} is not a host", "write host slots=8")
        gpus = slots[0] if slots else count
        try:
            found += [
                replace(candidate, gpus=int(gpus) if gpus else None)
                for candidate in from_word(name)
            ]
        except InputError as error:
            raise InputError(f"{source}:{number}: {error.message}", error.hint) from None
    return tuple(found)


def from_ssh_config(text: str) -> tuple[Candidate, ...]:
    """Return the names in Host lines that are not patterns."""
    lines = (re.split(r"[\s=]+", line.strip()) for line in text.splitlines())
    names = [name.strip('"') for key, *rest in lines if key.lower() == "host" for name in rest]
    return tuple(Candidate(name) for name in dict.fromkeys(names) if NAME.match(name))


def includes(text: str) -> tuple[str, ...]:
    """Return the files that an ssh_config includes, as written there."""
    lines = (re.split(r"[\s=]+", line.strip()) for line in text.splitlines())
    return tuple(name for key, *rest in lines if key.lower() == "include" for name in rest if name)


def from_known_hosts(text: str) -> tuple[tuple[Candidate, ...], int]:
    """Return the plain names in a known_hosts, and how many lines have hashed names.

    Only the first name of a line counts: the others are of the same machine.
    """
    found: dict[str, Candidate] = {}
    hashed = 0
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith(("#", "@")):
            continue
        if words[0].startswith("|"):
            hashed += 1
            continue
        match = re.match(r"\[(.+)\]:(\d+)\Z", first := words[0].split(",")[0])
        name, port = (match[1], int(match[2])) if match else (first, None)
        if NAME.match(name):
            found.setdefault(name, Candidate(name, port=port))
    return tuple(found.values()), hashed


def host_entries(
    candidates: Sequence[Candidate], facts: Mapping[str, Facts | str]
) -> dict[str, str]:
    """Return the lines of every host in an inventory, with a comment: what it has, or why that is
    unknown."""
    return {
        one.name: f"{one.name}: # {plain(_comment(facts.get(one.name, UNSEEN)))[:200]}\n"
        + _settings(one, facts.get(one.name, UNSEEN))
        for one in candidates
    }


def inventory_text(
    candidates: Sequence[Candidate], facts: Mapping[str, Facts | str], date: str
) -> str:
    """Return an inventory of hosts and what was found there."""
    hosts = indent("".join(host_entries(candidates, facts).values()), "  ")
    return (
        f"# Hosts for launcher, found by `launcher init` on {date}.\n"
        "# Keys left out come from ~/.ssh/config or are detected when a run starts. Some keys:\n"
        "#   address: 10.0.0.11         where to connect, if not to the name\n"
        "#   python: ~/.launcher/venv/bin/python   the host's Python, 3.8 or newer\n"
        "#   gpus: 8                    number of GPUs to use, as found; or which: [2, 3]\n"
        "#   proxy_jump: gateway        a host of this file, or [user@]host[:port]\n"
        "#   labels: { rack: a }        to select by: --hosts rack=a\n"
        "# All keys: launcher schema inventory\n"
        f"\nhosts:\n{hosts}"
    )


def gpus_of(one: Candidate, facts: Facts | str) -> int | None:
    """Return how many GPUs a host has: as it was named, or as found; None where that is not known.

    Instances of MIG are chosen by name, and a login may see only some: then their number says nothing.
    """
    if one.gpus is not None or isinstance(facts, str):
        return one.gpus
    is_plain = not facts.visible and not any(is_mig(gpu.index) for gpu in facts.gpus)
    return len(facts.gpus) or None if is_plain else None


def _settings(one: Candidate, facts: Facts | str) -> str:
    values = {"user": one.user, "port": one.port, "gpus": gpus_of(one, facts)}
    return "".join(f"  {key}: {value}\n" for key, value in values.items() if value is not None)


def _comment(facts: Facts | str) -> str:
    if isinstance(facts, str):
        return facts if facts == UNSEEN else f"not ready: {facts}"
    kinds = Counter(gpu.name for gpu in facts.gpus)
    parts = [f"{count} x {kind}" for kind, count in kinds.items()]
    parts += [
        f"{facts.cpus} cores",
        f"Python {facts.python_version}",
        f"rsync {facts.rsync}" if facts.rsync else "no rsync",
    ]
    parts += [f"{name} {ip}" for name, ip in facts.addresses if ip == facts.ssh_address]
    return ", ".join(parts)


def plain(text: str) -> str:
    """Return a host's text without characters that end a line or move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
