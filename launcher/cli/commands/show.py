"""``launcher show``: the status of a run, host by host, and its timeline."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...api.client import Client
from ...api.jobs import describe_job, used_images
from ...records import events as ev
from ...records.comparison import options_of
from ...records.reasons import EndReason
from ...records.state import ENDED, RunState
from ...spec import nodeset
from ...spec.errors import InputError, LauncherDied
from ...spec.gpus import fold
from ...spec.process_key import ProcessKey
from ...spec.typed_json import to_json
from .. import options
from ..render.columns import width_of
from ..render.folding import FEW, groups
from ..render.log_lines import harmless
from ..render.preload import preload_text
from ..render.receipt import receipt_text
from ..render.run_facts import Facts, facts_lines
from ..render.tables import age, counted, cut, duration, fold_tasks, table
from ..render.waits import waits_text
from ..run_argument import attached, run_argument

if TYPE_CHECKING:
    from ...api.handles import AsyncRunHandle
    from ...spec.model import Node

#: Left out of the timeline, because other events say the same.
_DULL = (ev.HostFinished, ev.OutputsPulled, ev.HostSwept, ev.GpusUsed)

#: Fields that have a column of their own, or mean nothing to people.
_ELSEWHERE = ("time", "host", "seq")


@click.command("show")
@run_argument
@click.option("--events", "whole", is_flag=True, help="Show the whole timeline, not only its end.")
@click.option("--profile", "is_profile", is_flag=True, help="Show where its time went instead.")
@click.option(
    "--svg", metavar="FILE", help="With --profile: draw each host's steps into this file."
)
@options.as_json
def command(word: str, whole: bool, is_profile: bool, svg: str | None, as_json: bool) -> None:
    """Show a run: its receipt, or its status so far; what was run, and its timeline."""
    if svg is not None and not is_profile:
        raise InputError("--svg needs --profile", f"launcher show {word} --profile --svg {svg}")
    run = asyncio.run(_found(word))
    if is_profile:
        _profile(run, svg, as_json)
        return
    events, followed, state, receipt = run.events(), run.followed, run.state(), run.receipt
    facts = _facts(run, events)
    if as_json:
        value = {
            "run": run.name,
            "status": state.status,
            "reason": state.reason,
            "followed": followed,
            "started": facts.started,
            "ended": facts.ended,
            "command_line": facts.request.command_line,
            "job": describe_job(facts.request.job) | {"secrets": facts.secrets},
            "options": options_of(facts.request),
            "code": to_json(facts.code) | {"code_of": facts.request.code_of},
            "data": to_json(facts.data),
            "images": to_json(used_images(facts.request.job, facts.layout)),
            "resume_from": facts.request.resume_from,
            "hosts": [node.host.name for node in facts.layout.nodes],
            "tags": facts.tags,
            "note": facts.note,
            "folder": str(run.folder),
            "receipt": receipt and receipt.to_json(),
            "processes": [asdict(process) for process in state.processes.values()],
            "events": [ev.encode(event) for event in events],
        }
        click.echo(json.dumps(value, indent=2))
        return
    if receipt:
        click.echo(receipt_text(receipt, width_of(sys.stdout)).lstrip("\n"))
    else:
        click.echo(_so_far(run, state, None if followed else events))
    click.echo()
    click.echo("\n".join(facts_lines(facts, time.time(), width_of(sys.stdout))))
    click.echo()
    click.echo(_timeline(events, 1000 if whole else 20))


def _profile(run: AsyncRunHandle, svg: str | None, as_json: bool) -> None:
    """Show where the time of a run went, and draw it where that is wanted."""
    from ...records import profile
    from ..render import profile as drawn

    events = run.events()
    stages, steps = profile.stages(events), profile.steps(events)
    if svg is not None:
        try:
            Path(svg).write_text(
                drawn.svg(f"Where the time of {run.name} went", stages, steps), "utf-8"
            )
        except OSError as error:
            raise InputError(f"cannot write {svg}: {error.strerror}") from None
    if as_json:
        value = {
            "run": run.name,
            "started": events[0].time if events else None,
            "stages": [to_json(one) for one in stages],
            "hosts": [to_json(one) for one in steps],
        }
        click.echo(json.dumps(value, indent=2))
        return
    if not stages:
        click.echo(f"{run.name} has not begun: launcher show {run.name}")
        return
    took = duration(sum(one.seconds for one in stages))
    click.echo(f"{click.style(run.name, bold=True)}  {took}\n")
    click.echo(drawn.profile_text(stages, profile.step_times(steps), not sys.stdout.isatty()))


async def _found(word: str) -> AsyncRunHandle:
    async with attached(word) as run:
        return run


def _facts(run: AsyncRunHandle, events: list[ev.Event]) -> Facts:
    ended = next((one.time for one in reversed(events) if isinstance(one, ev.RunEnded)), None)
    secrets = run.reader().secret_names
    noted = Client().show(run.name)
    return Facts(
        run.request,
        run.code,
        run.layout,
        secrets,
        run.started,
        ended,
        noted.tags,
        noted.note,
        run.data,
        run.use(),
        harmless(preload_text(run.request.job.preload, events).encode()).decode(),
    )


def _so_far(run: AsyncRunHandle, state: RunState, stale: list[ev.Event] | None) -> str:
    """Return the status of a run that has not ended. ``stale`` are its events if nobody follows it."""
    now = time.time()
    if state.status in ENDED:
        reason = "" if state.reason == EndReason.ALL_EXITED_0 else f" ({state.reason})"
        headline = f"{click.style(f'{state.status}{reason}', bold=True)}  {run.name}"
        if state.reason != EndReason.LAUNCHER_DIED:
            return f"{headline}\nits receipt is not written yet: launcher attach {run.name}"
        died = LauncherDied(begun=False)
        return f"{headline}\nerror: {died}\n  hint: {died.hint}"
    known = stale[-1].time if stale else now
    spent = duration(max(0.0, known - run.started))
    lines = [f"{click.style(state.status, bold=True)}  {run.name}  {spent}"]
    if stale is not None:
        old = f", {age(now - stale[-1].time)} old" if stale else ""
        lines.append(
            click.style("no launcher attached: ", fg="yellow")
            + f"last known state{old}. Update: launcher attach {run.name}"
        )
    if state.waits and stale is None:
        lines.append(f"waits for GPUs: {waits_text(state.waits)}")
    if state.waits_on:
        lines.append(_starts_it(state))
    rows = [] if state.waits_on else _host_rows(run.layout.nodes, state)
    if rows:
        lines.append(table(("host", "ranks", "gpus", "running", "connection"), rows, "  "))
    return "\n".join(lines)


def _starts_it(state: RunState) -> str:
    """Say who starts a run that waits."""
    if not state.waits_with:
        return f"{state.waits_on} starts it when its turn has come, with or without a launcher"
    hosts = nodeset.fold(state.waits_with)
    start = f"{hosts} start it together"
    if state.most:
        start = f"{state.wanted} to {state.most} of {hosts}, as many as are free, will start it"
    elif state.wanted:
        start = (
            f"whichever of {hosts} {'is' if state.wanted == 1 else 'are'} free first will start it"
        )
    if state.met is None:
        missing = "not enough of them" if state.wanted else "not all of them"
        return f"{start}, but {missing} have met yet"
    return f"{start} when its turn has come, with or without a launcher"


def _host_rows(nodes: Sequence[Node], state: RunState) -> list[tuple[str, ...]]:
    """Return a row for each host; of many, those that are alike share one, and the odd ones come
    first."""
    keys = []
    for node in nodes:
        mine = state.counted_on(node.host.name)
        alive = sum(1 for p in mine if p.code is None)
        keys.append(
            (
                fold(node.gpus) or "-",
                f"{alive} of {len(mine)}",
                "not answering" if node.host.name in state.silent else "-",
            )
        )
    known = {node.node_rank: key for node, key in zip(nodes, keys, strict=True)}
    folded = groups(nodes, keys) if len(nodes) > FEW else [[node] for node in nodes]
    rows: list[tuple[str, ...]] = []
    for group in folded:
        tasks = fold_tasks(task.key for node in group for task in node.tasks)
        ranks = nodeset.fold_ranks(sorted(rank for node in group for rank in node.ranks))
        hosts = nodeset.fold(node.host.name for node in group)
        rows.append((hosts, tasks or ranks, *known[group[0].node_rank]))
    return rows


def _is_end_of(event: ev.Event, hosts: set[str]) -> bool:
    return isinstance(event, ev.StopRequested | ev.HostEnded) and event.host in hosts


def _timeline(events: list[ev.Event], most: int) -> str:
    listed = [event for event in events if not isinstance(event, _DULL)]
    if len(listed) > most:  # hosts that it let go of say no more than that
        let_go = {host for one in events if isinstance(one, ev.HostsLetGo) for host in one.hosts}
        listed = [event for event in listed if not _is_end_of(event, let_go)]
    start = events[0].time if events else 0.0
    width = width_of(sys.stdout)
    rows = [
        (
            f"+{event.time - start:.1f} s",
            type(event).__name__,
            str(getattr(event, "host", "") or "-"),
            _details(event),
        )
        for event in listed[-most:]
    ]
    left_out = len(listed) - len(rows)
    head = f"{counted(left_out, 'earlier event')}: --events\n" if left_out else ""
    lines = table(("when", "event", "host", ""), rows).split("\n")
    return head + "\n".join(cut(line, width) for line in lines)


def _details(event: ev.Event) -> str:
    """Return the fields of an event, besides its time and host, in a line."""
    parts = []
    for one in fields(event):
        value = getattr(event, one.name)
        is_exit = one.name == "code" and value is not None  # also when it is 0
        twice = one.name == "rank" and getattr(event, "key", "") == str(ProcessKey.of_rank(value))
        if one.name in _ELSEWHERE or twice or not (is_exit or value):
            continue
        parts.append(f"{one.name} {_text(one.name, value)}")
    return "  ".join(parts)


def _text(name: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {one}" for key, one in sorted(value.items()))
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value)[:12] if name == "version" else str(value)
