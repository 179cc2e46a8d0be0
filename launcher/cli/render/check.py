"""What ``launcher check`` found: a table of what was measured, and findings with fixes. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from ...api.check import ERROR, OK, WARNING, Finding, gpus_text, problems, rate_text
from ...spec import nodeset
from ...spec.sizes import size
from .tables import counted, duration, table

if TYPE_CHECKING:
    from ...api.check import PairTest, Report, Survey

_COLOUR = {ERROR: "red", WARNING: "yellow", OK: "green"}
#: Columns that are dropped first on a narrow terminal.
_SPARE = ("os", "driver", "memory", "cores")
#: Columns that sentences of findings take at most.
SENTENCE = 110


def report_text(report: Report, asked: int, fixed: Sequence[str], width: int) -> str:
    """Return the report about ``asked`` hosts, and what was ``fixed``."""
    lines: list[str] = []
    if report.surveys:
        head, *rows = _hosts(report.surveys, width).split("\n")
        lines += [click.style(head, dim=True), *rows]
    if any(test.bandwidth for test in report.tests):
        lines.append(_network(report.tests, width))
    shown = problems(report.findings)
    for finding in shown:
        lines += ["", *_finding_lines(finding, min(width, SENTENCE))]
    if fixed:
        lines += ["", *(click.style("fixed  ", fg="green") + line for line in fixed)]
    if shown or fixed:
        lines.append("")
    return "\n".join([*lines, _verdict(report, asked)])


def _network(tests: Sequence[PairTest], width: int) -> str:
    """Return a line about all pairs. With many hosts only some pairs have a bandwidth."""
    rates = sorted(test.bandwidth for test in tests if test.bandwidth)
    trips = sorted(test.round_trip * 1000 for test in tests if test.round_trip is not None)
    sizes = sorted({test.mtu for test in tests if test.mtu})
    parts = [f"{rate_text(rates[0])} to {rate_text(rates[-1])}"]
    if len(rates) < len(tests) / 2:
        parts[0] += f" on {len(rates)} of {len(tests)} routes"
    if trips:
        parts.append(f"round trip {trips[0]:.2f} to {trips[-1]:.2f} ms")
    if sizes:
        largest = f" to {sizes[-1]}" if len(sizes) > 1 else ""
        parts.append(f"MTU {sizes[0]}{largest}")
    head = "network  "
    text = "   ".join(parts)
    if len(head + text) > width:
        text = f"{parts[0]}\n{' ' * len(head)}{'   '.join(parts[1:])}"
    return click.style(head, dim=True) + text


def _verdict(report: Report, asked: int) -> str:
    what = counted(asked, "host")
    if report.tests:
        what += f", {counted(len(report.tests) // 2, 'pair')}"
    counts = [
        click.style(counted(count, level), fg=_COLOUR[level])
        for level in (ERROR, WARNING)
        if (count := sum(finding.level == level for finding in report.findings))
    ]
    verdict = ", ".join(counts) or click.style("all is well", fg="green")
    return f"{what}: {verdict}  {duration(report.seconds)}"


def _finding_lines(finding: Finding, width: int) -> Iterator[str]:
    hosts = nodeset.fold(finding.hosts)
    if finding.there:
        hosts += f" -> {nodeset.fold(finding.there)}"
    level = click.style(f"{finding.level:<8}", fg=_COLOUR[finding.level], bold=True)
    yield f"{level} {click.style(finding.code, bold=True)}  {hosts}"
    for label, text in (("", finding.evidence), ("fix", finding.fix)):
        lines = textwrap.wrap(text, max(30, width - 9), break_on_hyphens=False)
        for number, line in enumerate(lines):
            shown = f"{'' if number else label:>8}"
            yield f"{shown.replace('fix', click.style('fix', fg='cyan'))} {line}"


_Cell = Callable[[list["Survey"]], str]


def _hosts(surveys: Iterable[Survey], width: int) -> str:
    """Return a table with a row for equal hosts; values that vary are the worst of them."""
    groups: dict[tuple[str, ...], list[Survey]] = {}
    for survey in surveys:
        key = tuple(cell([survey]) for name, cell, steady in _COLUMNS if steady)
        groups.setdefault(key, []).append(survey)
    gpus = any(survey.facts.gpus for survey in surveys)
    names = [name for name, _, _ in _COLUMNS if gpus or name not in ("gpus", "free", "driver")]
    text = _table(names, groups.values())
    for spare in _SPARE:
        if max(map(len, text.split("\n"))) > width and spare in names:
            names.remove(spare)
            text = _table(names, groups.values())
    return text


def _table(names: list[str], groups: Iterable[list[Survey]]) -> str:
    cells = {name: cell for name, cell, _ in _COLUMNS}
    rows = [
        [nodeset.fold(s.host for s in group), *(cells[name](group) for name in names)]
        for group in groups
    ]
    return table(["hosts", *names], rows)


def _torch(group: list[Survey]) -> str:
    software = group[0].software
    text = software.torch or "-"
    if software.cuda:
        text = f"{text.partition('+')[0]} cuda {software.cuda}"
    return text + (f" nccl {software.nccl}" if software.nccl else "")


def _free_gpus(group: list[Survey]) -> str:
    counts = []
    for survey in group:
        used = {user.gpu for user in survey.devices.users} | set(survey.facts.leased)
        counts.append(sum(gpu.index not in used for gpu in survey.facts.gpus))
    return str(counts[0]) if len(set(counts)) == 1 else f"{min(counts)}-{max(counts)}"


def _os(group: list[Survey]) -> str:
    return group[0].os.replace("GNU/Linux ", "").partition(" (")[0]


def _clock(group: list[Survey]) -> str:
    worst = max((s.facts.clock_offset for s in group), key=abs)
    return f"{worst:+.2f} s" if abs(worst) >= 0.005 else "0 s"


#: Name, text for a group of hosts, and whether hosts that differ in it get rows of their own.
_COLUMNS: tuple[tuple[str, _Cell, bool], ...] = (
    ("os", _os, True),
    ("python", lambda g: g[0].facts.python_version, True),
    ("torch", _torch, True),
    ("gpus", lambda g: gpus_text(g[0]) or "-", True),
    ("free", _free_gpus, False),
    ("driver", lambda g: g[0].devices.driver or "-", True),
    ("cores", lambda g: str(g[0].facts.cpus), True),
    ("memory", lambda g: size(g[0].memory.total), True),
    ("disk free", lambda g: size(min(s.facts.disk_free for s in g)), False),
    ("ping", lambda g: f"{max(s.latency for s in g) * 1000:.1f} ms", False),
    ("clock", _clock, False),
)
