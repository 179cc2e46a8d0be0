"""``launcher logs``: what the ranks of a run wrote, as far as it is here."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from ...api import runs
from ...jobs import job_file as jobs
from ...records.run_folder import RunFolder
from ...spec.errors import InputError
from .. import options
from ..run_argument import run_argument, taken_up

if TYPE_CHECKING:
    from ...runner.attach import Attached
    from ..render.run_view import Screen

#: Seconds between two looks with -f.
LOOK = 0.1


@click.command("logs")
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends; Ctrl-C leaves it be.")
@options.ranks
@click.option("--since", metavar="T", help="Only what came in the last 10m, 2h, ...")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="Only the last N lines of each.")
@click.option("--merged", is_flag=True, help="All ranks in the order of time, not one by one.")
@options.raw
def command(
    word: str,
    follow: bool,
    ranks: frozenset[int] | None,
    since: str | None,
    tail: int | None,
    merged: bool,
    raw: bool,
) -> None:
    """Shows the logs of a run, of every rank."""
    try:
        age = None if since is None else jobs.seconds(since)
    except ValueError as error:
        raise InputError(f"--since: {error}") from None
    from ..render.run_view import Screen

    screen = Screen(ranks=ranks, raw=raw)
    run = taken_up(word, lambda event: None, screen.on_log)
    if run.layout.nodes:
        screen.fit(run.layout)
    asyncio.run(_show(run, screen, follow, age, tail, merged))


async def _show(
    run: Attached, screen: Screen, follow: bool, age: float | None, tail: int | None, merged: bool
) -> None:
    if run.receipt() is None and run.holder() is None:
        with runs.hosts_of(run.request):
            await run.bring()  # nobody else does
    folder = RunFolder(run.path)
    times, names = folder.times(), folder.log_names()
    folder.close()
    begin = dict.fromkeys(names, 0)
    if age is not None:
        before = time.time() - age
        begin = {name: _offset_at(times.get(name, []), before) for name in names}
    if tail is not None:
        begin = {
            name: max(begin[name], _offset_of_last_lines(run.path / "logs" / name, tail))
            for name in names
        }
    async with screen:
        run.show_from(begin)
        if merged:
            pieces = sorted(
                (when, name, end) for name in names for when, end in times.get(name, [])
            )
            for _, name, end in pieces:
                run.show_up_to(name, end)
        run.look()
        while follow and run.receipt() is None:
            await asyncio.sleep(LOOK)
            run.look()
        run.look()


def _offset_at(times: list[tuple[float, int]], moment: float) -> int:
    """How many bytes of a log had come by then."""
    return max((end for when, end in times if when < moment), default=0)


def _offset_of_last_lines(path: object, count: int) -> int:
    """Where the last lines of a file begin."""
    with open(str(path), "rb") as file:
        data = file.read()
    end = len(data) - data.endswith(b"\n")
    for _ in range(count):
        end = data.rfind(b"\n", 0, max(0, end))
        if end < 0:
            return 0
    return len(data) if count == 0 else end + 1
