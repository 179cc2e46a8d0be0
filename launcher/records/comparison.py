"""What differs between two runs. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import field
from difflib import SequenceMatcher
from typing import Any

from ..spec import nodeset
from ..spec.frozen import frozen
from ..spec.model import Layout, Request
from .code import Code, one_line

#: Options of a run that are named where they differ.
OPTIONS = (
    "pull_every",
    "lost_after",
    "orphan_timeout",
    "stall_timeout",
    "stop_stalled",
    "max_rate",
    "max_restarts",
    "min_nodes",
    "check",
)


#: Packages that are named one by one.
PACKAGES = 20


@frozen
class Side:
    """One of the two runs. ``diff`` are the uncommitted changes of its code, and ``seconds`` is how
    long it took, None while it runs. ``packages`` are versions by name, and ``metrics`` the last values
    that it printed."""

    request: Request
    layout: Layout
    code: Code
    diff: bytes
    status: str
    reason: str
    seconds: float | None
    python: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, str] = field(default_factory=dict)


@frozen
class Difference:
    """One thing that differs; "" on the side that lacks it."""

    what: str
    before: str
    after: str


def compare(a: Side, b: Side) -> tuple[Difference, ...]:
    """Return what differs between two runs: how they were started first, then how they ended."""
    return (*_asked(a, b), *_code(a, b), *_environment(a, b), *_went(a, b))


def _asked(a: Side, b: Side) -> Iterator[Difference]:
    one, other = a.request.job, b.request.job
    if one.shell or other.shell or one.run[:1] != other.run[:1]:
        yield from _of("command", one_line(one.run, one.shell), one_line(other.run, other.shell))
    else:
        yield from _words(one.run, other.run)
    yield from _of("continues", a.request.resume_from or "", b.request.resume_from or "")
    yield from _of("framework", one.framework, other.framework)
    yield from _mapping("env ", one.envs, other.envs)
    yield from _of("setup", one.setup or "", other.setup or "")
    roles = [{role.name: f"{role}" for role in job.roles} for job in (one, other)]
    yield from (Difference(d.what, "", "differs") for d in _mapping("role ", *roles))
    yield from _mapping("", options_of(a.request), options_of(b.request))


def _words(one: Sequence[str], other: Sequence[str]) -> Iterator[Difference]:
    """Yield the arguments that differ, each with the option before it."""
    pairs = _options(one), _options(other)
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, *pairs, autojunk=False).get_opcodes():
        if tag != "equal":
            before, after = (sum(p, ()) for p in (pairs[0][i1:i2], pairs[1][j1:j2]))
            yield Difference("arguments", shlex.join(before), shlex.join(after))


def _options(words: Sequence[str]) -> list[tuple[str, ...]]:
    """Return words in groups: an option with the value behind it, or one word."""
    groups: list[tuple[str, ...]] = []
    for word in words:
        last = groups[-1] if groups else ()
        takes = len(last) == 1 and last[0].startswith("-") and "=" not in last[0]
        if takes and not word.startswith("--"):
            groups[-1] = (*last, word)
        else:
            groups.append((word,))
    return groups


def _code(a: Side, b: Side) -> Iterator[Difference]:
    yield from _of("workdir", a.request.job.workdir, b.request.job.workdir)
    yield from _of("commit", a.code.short, b.code.short)
    known = a.code.snapshot and b.code.snapshot
    if known and a.code.snapshot != b.code.snapshot:
        what = "not the same files" if a.diff == b.diff else "other uncommitted changes"
        yield Difference("code", "", what)


def _environment(a: Side, b: Side) -> Iterator[Difference]:
    jobs = a.request.job, b.request.job
    yield from _of("environment", *(str(job.environment or "") for job in jobs))
    roles = [{one.name: str(one.environment or "") for one in job.roles} for job in jobs]
    yield from _mapping("environment of ", *roles)
    one, other = (
        {node.host.name: str(node.host.environment or "") for node in side.layout.nodes}
        for side in (a, b)
    )
    for host in sorted({*one} & {*other}):
        yield from _of(f"environment of {host} in the inventory", one[host], other[host])
    yield from _of("modules", *(" ".join(job.modules) for job in jobs))
    yield from _of("preload", *(" ".join(job.preload) for job in jobs))
    yield from _of("python", a.python, b.python)
    if a.packages and b.packages:  # a run without a framework of Python has none
        found = list(_mapping("package ", a.packages, b.packages))
        yield from found[:PACKAGES]
        if found[PACKAGES:]:
            yield Difference("packages", "", f"{len(found) - PACKAGES} more differ")


def _went(a: Side, b: Side) -> Iterator[Difference]:
    one, other = _outcome(a), _outcome(b)
    for what, before in one.items():
        yield from _of(what, before, other[what])
    yield from _mapping("", a.metrics, b.metrics)


def _outcome(side: Side) -> dict[str, str]:
    nodes = side.layout.nodes
    return {
        "hosts": nodeset.fold(node.host.name for node in nodes) if nodes else "",
        "ranks": str(side.layout.world_size or ""),
        "gpus": str(sum(len(node.gpus) for node in nodes) or ""),
        "status": f"{side.status} ({side.reason})" if side.reason else side.status,
        "seconds": "" if side.seconds is None else f"{side.seconds:.1f}",
    }


def _mapping(prefix: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[Difference]:
    for name in sorted({*one, *other}):
        before, after = (str(side[name]) if name in side else "" for side in (one, other))
        yield from _of(f"{prefix}{name}", before, after)


def _of(what: str, before: str, after: str) -> Iterator[Difference]:
    if before != after:
        yield Difference(what, before, after)


def options_of(request: Request) -> Mapping[str, Any]:
    """Return the options of a run that differ from their defaults."""
    default = Request(request.job, request.inventory, ())
    return {
        name: getattr(request, name)
        for name in OPTIONS
        if getattr(request, name) != getattr(default, name)
    }
