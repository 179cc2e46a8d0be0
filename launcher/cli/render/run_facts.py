"""What is recorded of a run besides its receipt: what was run, of which code, where and when. Pure."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from dataclasses import field

import click

from ...api.jobs import used_images
from ...records.code import Code, one_line
from ...records.comparison import options_of
from ...records.data import UsedSet
from ...records.metrics import HostUse
from ...spec import nodeset
from ...spec.containers import SHORT as DIGITS
from ...spec.data import SHARED, SHORT, scheme
from ...spec.frozen import frozen
from ...spec.model import Job, Layout, Request
from ...spec.sizes import size
from .metrics import host_line
from .tables import counted, cut, local, moment, took
from .waits import left_to

#: What takes longer does not happen: a year.
_NEVER = 365 * 86400.0


@frozen
class Facts:
    """What ``show`` knows of a run. ``ended`` is None while it runs; times are since the epoch."""

    request: Request
    code: Code
    layout: Layout
    secrets: tuple[str, ...]
    started: float
    ended: float | None
    tags: tuple[str, ...] = ()
    note: str = ""
    data: tuple[UsedSet, ...] = ()
    use: Mapping[str, HostUse] = field(default_factory=dict)
    preloaded: str = ""  # what became of modules to preload


def facts_lines(facts: Facts, now: float, width: int) -> list[str]:
    """Return the facts as lines, each after a label and cut to the width."""
    lines = []
    noted = [("tags", ", ".join(facts.tags)), ("note", " ".join(facts.note.split()))]
    for label, text in (*((label, text) for label, text in noted if text), *_facts(facts, now)):
        lines.append(click.style(f"{label:9}", dim=True) + cut(text, max(20, width - 9)))
    return lines


def _facts(facts: Facts, now: float) -> Iterator[tuple[str, str]]:
    request, job, code = facts.request, facts.request.job, facts.code
    if request.command_line:
        yield "typed", shlex.join(["launcher", *request.command_line[1:]])
    yield from (("command", text) for text in _commands(job))
    yield "workdir", job.workdir
    if code.files or request.code_of:
        same = f", as {request.code_of} had it" if request.code_of else ""
        yield "code", f"{_code(code)}{same}"
    for one in facts.data:
        if scheme(one.source) == SHARED:
            yield "data", f"{one.name}: {one.source}, as hosts have it"
            continue
        files = f"{counted(one.files, 'file')}, {size(one.bytes)}"
        yield (
            "data",
            f"{one.name} {one.version[:SHORT]}: {files}, from {one.source}{_with(one.credential)}",
        )
    yield from _images(job, facts.layout)
    if request.resume_from:
        some = f", of these {', '.join(request.resume_paths)}" if request.resume_paths else ""
        yield "from", f"the outputs of {request.resume_from}{some}"
    yield "started", _times(facts, now)
    if nodes := facts.layout.nodes:
        names = [node.host.name for node in nodes]
        where = left_to(names, facts.layout.wanted, facts.layout.most)
        yield "hosts", f"{where}, {counted(facts.layout.world_size, 'rank')}, {job.framework}"
    if used := host_line(facts.use):
        yield "used", used
    yield from _variables(facts)
    if changed := options_of(request):
        yield (
            "options",
            ", ".join(f"{name} {_said(name, value)}" for name, value in changed.items()),
        )


def _images(job: Job, layout: Layout) -> Iterator[tuple[str, str]]:
    for one in used_images(job, layout):
        by_id: dict[str, list[str]] = {}
        for host, its in one.ids.items():
            by_id.setdefault(its[:DIGITS], []).append(host)
        where = ", ".join(f"{its} on {nodeset.fold(on)}".strip() for its, on in by_id.items())
        whose = f"{', '.join(one.roles)}: " if one.roles else ""
        yield "image", f"{whose}{one.image}, {where}"


def _variables(facts: Facts) -> Iterator[tuple[str, str]]:
    if facts.preloaded:
        yield "preload", facts.preloaded
    if envs := facts.request.job.envs:
        yield "env", shlex.join(f"{name}={value}" for name, value in envs.items())
    if facts.secrets:
        yield "secrets", ", ".join(facts.secrets)


def _with(credential: str) -> str:
    return f" with credential {credential}" if credential else ""


def _said(name: str, value: object) -> str:
    if isinstance(value, bool):
        return ("no", "yes")[value]
    if isinstance(value, float):  # all of these are seconds
        return "never" if value >= _NEVER else took(value)
    return f"{size(value)}/s" if name == "max_rate" and isinstance(value, int) else str(value)


def _commands(job: Job) -> Iterator[str]:
    if job.run:
        yield one_line(job.run, job.shell)
    own = (role for role in job.roles if role.run and role.run != job.run)
    yield from (f"{role.name}: {one_line(role.run, role.shell)}" for role in own)


def _code(code: Code) -> str:
    what = f"{counted(code.files, 'file')}, {size(int(code.bytes))}"
    if not code.commit:
        return f"{what}; not in git"
    branch = f" on {code.branch}" if code.branch else ""
    state = "; not all of it committed: code.diff" if code.dirty else ""
    return f"{code.commit[:12]}{branch}, {what}{state}"


def _times(facts: Facts, now: float) -> str:
    began = time.strftime("%a %d %b %Y %H:%M:%S", local(facts.started))
    if facts.ended is None:
        return began
    spent = took(max(0.0, facts.ended - facts.started))
    return f"{began}; ended {moment(facts.ended, now)}, after {spent}"
