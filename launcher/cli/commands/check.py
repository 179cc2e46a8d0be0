"""``launcher check``: a table of what was measured, and a list of findings with fixes."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from ...api import jobs
from ...api.check import (
    check_hosts,
    keep_check,
    sandbox_of,
    with_smoke,
    write_suggested,
)
from ...api.hosts import select_hosts
from ...spec import nodeset
from ...spec.errors import InputError
from .. import options
from ..inventory_lookup import loaded, need_inventory
from ..render.check import report_text
from ..render.messages import complain
from ..render.moving_line import MovingLine
from ..render.tables import counted
from ..settings import agree, found_settings, job_layers

if TYPE_CHECKING:
    from ...api.check import Report
    from ...spec.model import Host, Inventory, Job

#: Seconds before the progress line appears, and between its updates.
STILL, STEP = 1.0, 0.2


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
        click.echo(
            report_text(report, len(chosen), done, shutil.get_terminal_size((100, 24)).columns)
        )
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
    from ..run_argument import passphrases

    async with Doing() as doing:
        return await check_hosts(
            known,
            chosen,
            job,
            fix=fix,
            pairs=pairs,
            ask_passphrase=passphrases(),
            progress=doing.say,
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
        self._text, self._line = "", MovingLine()
        self._task: asyncio.Task[None] | None = None

    def say(self, text: str) -> None:
        """Set the text of the line."""
        self._text = text

    async def __aenter__(self) -> Doing:
        if self._line.moves:
            self._task = asyncio.ensure_future(self._tick())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self._line.clear()

    async def _tick(self) -> None:
        started = time.monotonic()
        await asyncio.sleep(STILL)
        while True:
            self._line.draw(f"{self._text}  {time.monotonic() - started:.0f} s", dim=True)
            await asyncio.sleep(STEP)


def _tell_off(known: Inventory, are_named: bool) -> None:
    """Name the hosts that were not checked because they are off."""
    whys: dict[str, list[str]] = {}
    for host, why in {} if are_named else known.off.items():
        whys.setdefault(why, []).append(host)
    for why, names in whys.items():
        click.echo(f"not checked: {nodeset.fold(names)}, off: {why}")
