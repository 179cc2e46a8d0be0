"""``launcher check``: a table of what was measured, and a list of findings with fixes."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ...api import jobs
from ...api.check import (
    ERROR,
    OK,
    WARNING,
    Finding,
    check_hosts,
    gpus_text,
    keep_check,
    problems,
    rate_text,
    sandbox_of,
    with_smoke,
    write_suggested,
)
from ...api.hosts import select_hosts
from ...spec import nodeset
from ...spec.errors import InputError
from .. import complain, options
from ..inventory_lookup import loaded, need_inventory
from ..render.tables import counted, duration, size, table
from ..settings import agree, found_settings, job_layers
from ..terminal import control

if TYPE_CHECKING:
    from ...api.check import PairTest, Report, Survey
    from ...spec.model import Host, Inventory, Job

_COLOUR = {ERROR: "red", WARNING: "yellow", OK: "green"}
#: Seconds before the progress line appears, and between its updates.
STILL, STEP = 1.0, 0.2
#: Columns that are dropped first on a narrow terminal.
_SPARE = ("os", "driver", "memory", "cores")


@click.command("check")
@options.inventory
@options.hosts
@click.option(
    "--job",
    "job_file",
    metavar="JOB.yaml",
    help="Also check whether this job fits and finds what it needs.",
)
@click.option(
    "--no-pairs", is_flag=True, help="Check each host alone; send no traffic between hosts."
)
@click.option("--smoke", is_flag=True, help="Then run an all-reduce over the hosts for 10 s.")
@click.option(
    "--fix", is_flag=True, help="Write interfaces into the inventory, and stop leftovers of runs."
)
@click.option("--json", "as_json", is_flag=True, help="Print all measurements as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    inventory: str | None,
    hosts: str | None,
    job_file: str | None,
    no_pairs: bool,
    smoke: bool,
    fix: bool,
    as_json: bool,
) -> None:
    """Check every host and every pair of hosts, before you launch anything.

    Each finding has a stable code, the evidence, and a fix. The exit code is 1 if any is an error.
    """
    place = need_inventory(inventory)
    known = loaded(place)
    job = _job(job_file) if job_file else None
    chosen = select_hosts(known, hosts or (job.hosts if job else None))
    with sandbox_of(known):
        report, done = asyncio.run(_check(known, chosen, job, fix, not no_pairs))
        if fix:
            report, written = _write_interfaces(report, place)
            done += written
        if smoke:
            report = _with_smoke(report, job, known)
    keep_check(known, chosen, report)
    if as_json:
        click.echo(json.dumps({**report.to_json(), "off": known.off, "fixed": done}, indent=2))
    else:
        _show(report, len(chosen), done)
        _tell_off(known, bool(hosts))
    ctx.exit(1 if report.failed else 0)


def _job(file: str) -> Job:
    """Return the job of a file, as a run would have it by the settings that hold here."""
    found = found_settings()
    job = jobs.layered_job({**job_layers(found), "file": jobs.load_job(file)})
    agree(found)
    return job


async def _check(
    known: Inventory, chosen: tuple[Host, ...], job: Job | None, fix: bool, pairs: bool
) -> tuple[Report, list[str]]:
    from ..run_argument import ask_passphrase

    ask = ask_passphrase if sys.stdin.isatty() else None
    async with Doing() as doing:
        return await check_hosts(
            known, chosen, job, fix=fix, pairs=pairs, ask_passphrase=ask, progress=doing.say
        )


def _with_smoke(report: Report, job: Job | None, known: Inventory) -> Report:
    """Run an all-reduce over the hosts the job would get, or all that answered.

    Skip it if an error was found before.
    """
    hosts = report.chosen or tuple(survey.host for survey in report.surveys)
    if report.failed or not hosts:
        click.echo("skipping the all-reduce: correct the errors first", err=True)
        return report
    if sys.stderr.isatty():
        click.secho(
            f"running an all-reduce over {counted(len(hosts), 'host')}, about 15 s",
            dim=True,
            err=True,
        )
    return with_smoke(report, job, known, hosts)


def _write_interfaces(report: Report, place: str) -> tuple[Report, list[str]]:
    """Write the suggested interfaces into the inventory, or print why that failed."""
    try:
        return write_suggested(report, place)
    except InputError as error:
        complain(error)
        return report, []


class Doing:
    """A progress line on the terminal, for what takes longer than a second."""

    def __init__(self) -> None:
        self._text = ""
        self._task: asyncio.Task[None] | None = None
        self._up = False

    def say(self, text: str) -> None:
        """Set the text of the line."""
        self._text = text

    async def __aenter__(self) -> Doing:
        if sys.stderr.isatty():
            self._task = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._up:
            _draw("")

    async def _tick(self) -> None:
        started = time.monotonic()
        await asyncio.sleep(STILL)
        while True:
            self._up = True
            text = f"{self._text}  {time.monotonic() - started:.0f} s"
            width = shutil.get_terminal_size().columns - 1
            _draw(text[:width])
            await asyncio.sleep(STEP)


def _draw(text: str) -> None:
    """Replace the line. Not through click, which takes cursor moves for colour and strips them."""
    control("\r\x1b[K")
    sys.stderr.write(text)
    sys.stderr.flush()


# -- the table of hosts


def _show(report: Report, asked: int, done: list[str]) -> None:
    width = shutil.get_terminal_size((100, 24)).columns
    if report.surveys:
        head, *lines = _hosts(report.surveys, width).split("\n")
        click.secho(head, dim=True)
        click.echo("\n".join(lines))
    if any(test.bandwidth for test in report.tests):
        click.echo(_network(report.tests, width))
    shown = problems(report.findings)
    for finding in shown:
        click.echo()
        _show_finding(finding, min(width, 110))
    if done:
        click.echo()
    for line in done:
        click.echo(click.style("fixed  ", fg="green") + line)
    click.echo(("\n" if shown or done else "") + _verdict(report, asked))


def _tell_off(known: Inventory, are_named: bool) -> None:
    """Name the hosts that were not checked because they are off."""
    whys: dict[str, list[str]] = {}
    for host, why in {} if are_named else known.off.items():
        whys.setdefault(why, []).append(host)
    for why, names in whys.items():
        click.echo(f"not checked: {nodeset.fold(names)}, off: {why}")


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


def _show_finding(finding: Finding, width: int) -> None:
    hosts = nodeset.fold(finding.hosts)
    if finding.there:
        hosts += f" -> {nodeset.fold(finding.there)}"
    level = click.style(f"{finding.level:<8}", fg=_COLOUR[finding.level], bold=True)
    click.echo(f"{level} {click.style(finding.code, bold=True)}  {hosts}")
    for label, text in (("", finding.evidence), ("fix", finding.fix)):
        if text:
            lines = textwrap.wrap(text, max(30, width - 9), break_on_hyphens=False)
            lines = [f"{'' if n else label:>8} {line}" for n, line in enumerate(lines)]
            shown = "\n".join(lines)
            click.echo(shown.replace("fix", click.style("fix", fg="cyan"), 1) if label else shown)


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
