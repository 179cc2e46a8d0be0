"""Hosts that a person may mean, out of files that name some, and a first inventory of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ..spec import nodeset
from ..spec.errors import InputError
from ..spec.frozen import frozen
from ..spec.model import Facts

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")
_WORD = re.compile(r"(?:(?P<user>[A-Za-z0-9_.-]+)@)?(?P<names>[^@:]+)(?::(?P<port>\d{1,5}))?\Z")
_SLOTS = re.compile(r"(?:slots|max_slots|gpus)=(\d+)\Z")

#: What stands beside a host to which nobody went.
UNSEEN = "not looked at"


@frozen
class Candidate:
    """A host by name, and what is known of it. What is None comes from ssh_config or a probe."""

    name: str
    user: str | None = None
    port: int | None = None
    gpus: int | None = None


def from_word(word: str) -> tuple[Candidate, ...]:
    """``[user@]host[:port]``, where host may be a nodeset. Raises InputError."""
    match = _WORD.match(word)
    port = int(match["port"]) if match and match["port"] else None
    try:
        names = nodeset.expand(match["names"]) if match else ()
    except ValueError as error:
        raise InputError(str(error), "a nodeset looks like gpu[01-08,12]") from None
    if not names or not all(map(_NAME.match, names)) or not (port is None or 0 < port < 65536):
        raise InputError(f"{word!r} is no host", "[user@]host[:port], or a nodeset: gpu[01-08]")
    return tuple(Candidate(name, match["user"] if match else None, port) for name in names)


def from_words(text: str) -> tuple[Candidate, ...]:
    """Several of them, between blanks or commas; the first of a name counts. Raises InputError."""
    found: dict[str, Candidate] = {}
    for term in nodeset.split_terms(",".join(text.split())):
        for candidate in from_word(term):
            found.setdefault(candidate.name, candidate)
    return tuple(found.values())


def from_hostfile(text: str, source: str) -> tuple[Candidate, ...]:
    """Lines ``host``, ``host slots=8`` or ``host:8``, as of MPI and DeepSpeed. Raises InputError."""
    found: list[Candidate] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if not words:
            continue
        name, _, count = words[0].partition(":")
        slots = [match[1] for match in map(_SLOTS.match, words[1:]) if match]
        if count and not count.isdigit():
            raise InputError(f"{source}:{number}: {words[0]!r} is no host", "host slots=8")
        try:
            gpus = int(slots[0]) if slots else int(count) if count else None
            found += [replace(candidate, gpus=gpus) for candidate in from_word(name)]
        except InputError as error:
            raise InputError(f"{source}:{number}: {error.message}", error.hint) from None
    return tuple(found)


def from_ssh_config(text: str) -> tuple[Candidate, ...]:
    """The names of its Host lines that are no patterns."""
    lines = (re.split(r"[\s=]+", line.strip()) for line in text.splitlines())
    names = [name.strip('"') for key, *rest in lines if key.lower() == "host" for name in rest]
    return tuple(Candidate(name) for name in dict.fromkeys(names) if _NAME.match(name))


def includes(text: str) -> tuple[str, ...]:
    """The files that an ssh_config includes, as they stand there."""
    lines = (re.split(r"[\s=]+", line.strip()) for line in text.splitlines())
    return tuple(name for key, *rest in lines if key.lower() == "include" for name in rest if name)


def from_known_hosts(text: str) -> tuple[tuple[Candidate, ...], int]:
    """The plain names of a known_hosts, and how many are hashed, so that nobody can read them.

    A line's first name stands for the line: the others are the same machine's.
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
        if _NAME.match(name):
            found.setdefault(name, Candidate(name, port=port))
    return tuple(found.values()), hashed


def inventory_text(
    candidates: Sequence[Candidate], told: Mapping[str, Facts | str], date: str
) -> str:
    """An inventory with a comment on every host: what it has, or why that is not known."""
    hosts = "".join(
        f"  {one.name}: # {plain(_comment(told.get(one.name, UNSEEN)))[:200]}\n{_settings(one)}"
        for one in candidates
    )
    return (
        f"# Hosts for launcher, found by `launcher init` on {date}.\n"
        "# What is left out comes from ~/.ssh/config, or is found when a run begins. Some keys:\n"
        "#   address: 10.0.0.11         where to connect to, when the name is not enough\n"
        "#   python: ~/.launcher/venv/bin/python   the interpreter there, 3.8 or newer\n"
        "#   gpus: 8                    use so many; all of nvidia-smi's when left out\n"
        "#   proxy_jump: gateway        a host of this file, or [user@]host[:port]\n"
        "#   labels: { rack: a }        to choose by: --hosts rack=a\n"
        "# All of them: launcher schema inventory\n"
        f"\nhosts:\n{hosts}"
    )


def _settings(one: Candidate) -> str:
    values = {"user": one.user, "port": one.port, "gpus": one.gpus}
    return "".join(f"    {key}: {value}\n" for key, value in values.items() if value is not None)


def _comment(told: Facts | str) -> str:
    if isinstance(told, str):
        return told if told == UNSEEN else f"not ready: {told}"
    kinds = dict.fromkeys(gpu.name for gpu in told.gpus)
    parts = [
        *(f"{sum(gpu.name == kind for gpu in told.gpus)} x {kind}" for kind in kinds),
        f"{told.cpus} cores",
        f"Python {told.python_version}",
        f"rsync {told.rsync}" if told.rsync else "no rsync",
        *_where(told),
    ]
    return ", ".join(parts)


def _where(facts: Facts) -> Iterable[str]:
    return (f"{name} {ip}" for name, ip in facts.addresses if ip == facts.ssh_address)


def plain(text: str) -> str:
    """What a host says, for a line of ours: it cannot end it, nor move the cursor."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
