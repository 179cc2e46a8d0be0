"""``launcher show``: how a run stands, host by host, and what happened when."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

import click

from ...records import events as ev
from ...records.state import RunState
from ...spec import nodeset
from ...spec.process_key import ProcessKey
from .. import options
from ..render.hints import terminal_width
from ..render.receipt import receipt_text
from ..render.tables import counted, duration, fold_tasks, table
from ..run_argument import attached, run_argument

if TYPE_CHECKING:
    from ...api.handles import AsyncRunHandle

#: Events that are left out of the timeline, because others say the same.
_DULL = (ev.HostFinished, ev.OutputsPulled, ev.HostSwept, ev.GpusUsed)

#: What stands in a column of its own, or means nothing to a person.
_ELSEWHERE = ("time", "host", "seq")


@click.command("show")
@run_argument
@click.option("--events", "whole", is_flag=True, help="The whole timeline, not only its end.")
@options.as_json
def command(word: str, whole: bool, as_json: bool) -> None:
    """Shows a run: its receipt, or how it stands so far; then what happened when."""
    run = asyncio.run(_found(word))
    events, followed, state, receipt = run.events(), run.followed, run.state(), run.receipt
    if as_json:
        value = {
            "run": run.name,
            "status": state.status,
            "reason": state.reason,
            "followed": followed,
            "receipt": receipt and receipt.to_json(),
            "processes": [asdict(process) for process in state.processes.values()],
            "events": [ev.encode(event) for event in events],
        }
        click.echo(json.dumps(value, indent=2))
        return
    if receipt:
        click.echo(receipt_text(receipt, terminal_width()).lstrip("\n"))
    else:
        click.echo(_so_far(run, state, followed))
    click.echo()
    click.echo(_timeline(events, 1000 if whole else 20))


async def _found(word: str) -> AsyncRunHandle:
    async with attached(word) as run:
        return run


def _so_far(run: AsyncRunHandle, state: RunState, followed: bool) -> str:
    age = duration(time.time() - run.started)
    lines = [f"{click.style(state.status, bold=True)}  {run.name}  {age}"]
    if not followed:
        lines.append(
            click.style("no launcher attached: ", fg="yellow")
            + f"this is what was last heard; launcher attach {run.name} asks the hosts"
        )
    rows = []
    for node in run.layout.nodes:
        name = node.host.name
        mine = [p for p in state.processes.values() if p.host == name]
        alive = sum(1 for p in mine if p.code is None)
        silent = "" if name not in state.silent else "not answering"
        rows.append(
            (name, fold_tasks(t.key for t in node.tasks) or nodeset.fold_ranks(node.ranks),
             ",".join(map(str, node.gpus)) or "-", f"{alive} of {len(mine)}", silent or "-")
        )  # fmt: skip
    if rows:
        lines.append(table(("host", "ranks", "gpus", "running", "connection"), rows, "  "))
    return "\n".join(lines)


def _timeline(events: list[ev.Event], most: int) -> str:
    told = [event for event in events if not isinstance(event, _DULL)]
    start = events[0].time if events else 0.0
    width = terminal_width() if sys.stdout.isatty() else 160
    rows = [
        (f"+{event.time - start:.1f} s", type(event).__name__, str(getattr(event, "host", "") or "-"),
         _words(event))
        for event in told[-most:]
    ]  # fmt: skip
    left_out = len(told) - len(rows)
    head = f"{counted(left_out, 'earlier event')}: --events\n" if left_out else ""
    lines = table(("when", "event", "host", ""), rows).split("\n")
    return head + "\n".join(
        line if len(line) <= width else f"{line[: width - 1]}…" for line in lines
    )


def _words(event: ev.Event) -> str:
    """What an event says besides its time and host, in a line."""
    said = []
    for one in fields(event):
        value = getattr(event, one.name)
        told = one.name == "code" and value is not None  # an exit with 0 is worth a word
        twice = one.name == "rank" and getattr(event, "key", "") == str(ProcessKey.of_rank(value))
        if one.name in _ELSEWHERE or twice or not (told or value):
            continue
        said.append(f"{one.name} {_text(one.name, value)}")
    return "  ".join(said)


def _text(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in sorted(value.items()))
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)[:12] if name == "version" else str(value)
