"""A start command of another launcher, taken apart."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field

from ..spec.frozen import frozen

PYTHON = re.compile(r"(.*/)?python[\d.]*\Z")


@frozen
class StartCommand:
    """A start command, taken apart.

    ``run`` is what every rank runs, ``options`` are those to keep for the framework's own launcher.
    ``nodes``, ``local_ranks`` and ``ranks`` are the counts it names: they hold where the job has none.
    ``also`` are other frameworks that take it. ``passed`` are variables whose values the user's own
    environment has. ``exact`` is the option that says how many ranks there are in all, where a job with
    another number is a mistake.
    """

    framework: str
    run: tuple[str, ...]
    options: tuple[str, ...] = ()
    envs: Mapping[str, str] = field(default_factory=dict)
    nodes: int | str | None = None
    local_ranks: int | None = None
    ranks: int | None = None
    restarts: int | None = None
    also: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()
    exact: str = ""


_OPTION = re.compile(r"(?P<plain>-(?=.)[^mcWX]*)(?P<valued>[mcWX]?)(?P<value>.*)", re.DOTALL)


def behind_python(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command of Python without that and its own options: ``-m MODULE``, ``-c TEXT`` or a
    script comes first."""
    at = 1
    while at < len(words) and (option := _OPTION.fullmatch(words[at])):
        at += 1
        if option["plain"][:2] == "--":
            continue
        if option["valued"] in ("m", "c"):
            value = (option["value"],) if option["value"] else ()
            return (f"-{option['valued']}", *value, *words[at:])
        at += bool(option["valued"]) and not option["value"]
    return words[at:]


def without_python(run: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command without the Python in front of its script or module: each host has its own."""
    if PYTHON.match(run[0]):
        words = run[2:] if run[1:2] == ("-u",) else run[1:]
        if words and (words[0] == "-m" or words[0].endswith(".py")):
            return words
    return run
