"""``launcher scale``: try a job on more and more hosts, and recommend how many to use."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ...api import jobs, scaling
from ...records.reasons import EndReason, StopReason
from ...spec.errors import InputError
from ...spec.model import Job, Request
from .. import completion, options
from ..asked import asked_for, seconds
from ..follow import on_hangup
from ..inventory_lookup import loaded, note
from ..render import chart
from ..render.tables import counted, duration, table
from ..run_argument import passphrases

if TYPE_CHECKING:
    from ...api.scaling import Trials
    from ...records.receipt import Receipt

#: Why a trial ends when nothing went wrong.
_WELL = (EndReason.ALL_EXITED_0, EndReason.PRIMARY_EXITED_0, StopReason.TRIAL_OVER)


@click.command("scale")
@click.argument(
    "command_words",
    metavar="JOB.yaml | [--] SCRIPT [ARGS]...",
    nargs=-1,
    required=True,
    shell_complete=completion.scripts,
)
@options.inventory
@click.option("-N", "--nodes", "sizes", metavar="N,N", help="Numbers of hosts (default: 1,2,4...).")
@click.option(
    "--for", "lasts", default="60s", metavar="T", help="Length of a trial (default: 60s)."
)
@click.option("--warmup", metavar="T", help="Ignore rates of the first T (default: a quarter).")
@click.option("--pattern", metavar="REGEX", help="Format of the rate: 'samples/s: ([0-9.]+)'.")
@click.option("--per-rank", is_flag=True, help="The rate is one rank's, not the whole job's.")
@options.hosts
@options.nproc_per_node
@options.framework
@click.option("-o", "--output", metavar="FILE.svg", help="Also draw the speed-up into this file.")
@click.option("--json", "as_json", is_flag=True, help="Print all measurements as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    command_words: tuple[str, ...],
    inventory: str | None,
    sizes: str | None,
    lasts: str,
    warmup: str | None,
    pattern: str | None,
    per_rank: bool,
    output: str | None,
    as_json: bool,
    **flags: str | int | None,
) -> None:
    """Try a job on 1, 2, 4... hosts, read the rate that it prints, and recommend a number of hosts.

    Each trial is an ordinary run with a receipt, stopped after its time. A rate is what programs
    usually print (123.4 samples/s, 5 it/s, tokens per second: 9), what --pattern finds, or steps
    per second from TensorBoard's scalars. The exit code is 1 if a trial has no rate.
    """
    lasting = seconds("--for", lasts)
    warm = lasting / 4 if warmup is None else seconds("--warmup", warmup)
    if lasting <= 0:
        raise InputError(f"--for {lasts}: must be more than 0", "such as --for 60s")
    if warm >= lasting:
        raise InputError(
            f"--warmup {warm:g} s leaves nothing of --for {lasting:g} s",
            "a longer --for, or a shorter --warmup",
        )
    try:
        own = scaling.pattern(pattern) if pattern is not None else None
    except ValueError as error:
        raise InputError(f"--pattern {error}", "such as 'samples/s: ([0-9.]+)'") from None
    asked = asked_for(ctx, command_words, {**flags, "num_nodes": "1"})
    job = jobs.layered_job(asked.layers)
    hosts = loaded(inventory or asked.options.get("inventory"))
    requests = scaling.requests_for(
        job,
        hosts,
        sizes,
        command_line=tuple(sys.argv),
        ask_passphrase=passphrases(),
        options=jobs.run_options(asked.options),
    )
    if output and not Path(output).absolute().parent.is_dir():
        raise InputError(f"-o {output}: no such folder", f"mkdir -p {Path(output).parent}")
    started = _Started(len(requests), lasting)
    trials = scaling.trials_of(lasting, warm, own, per_rank, started=started, ended=_ended)
    with scaling.sandbox_of(hosts):
        found = scaling.compare(asyncio.run(_listening(trials, requests)))
    _show(found, scaling.caution(found, per_rank), as_json, trials.interrupted)
    if output:
        _draw(output, found, job)
    missing = any(row.trial.rate is None for row in found.rows)
    ctx.exit(130 if trials.interrupted else int(missing))


async def _listening(trials: Trials, requests: Sequence[Request]) -> list[scaling.Trial]:
    """Run the trials. Ctrl-C stops the current one and skips the others.

    So does a closed terminal, since nobody would stop the trial in time.
    """
    loop = asyncio.get_running_loop()

    def asked() -> None:
        first = not trials.interrupted
        trials.stop()
        _say("stopping; results so far follow" if first else "killing now", "yellow")

    loop.add_signal_handler(signal.SIGINT, asked)
    on_hangup(asked)
    return await trials.all(requests)


# -- what is printed


def _say(text: str, colour: str | None = None) -> None:
    with suppress(OSError):  # the terminal is gone; continue, to leave the hosts clean
        click.secho(text, fg=colour, err=True)


class _Started:
    """Print that a trial starts, and which one of how many."""

    def __init__(self, count: int, lasting: float) -> None:
        self._number, self._count, self._lasting = 0, count, lasting

    def __call__(self, nodes: int, run: str) -> None:
        self._number += 1
        name = click.style(run, bold=True)
        what = f"{counted(nodes, 'node')} for {duration(self._lasting)}: run {name}"
        _say(f"trial {self._number} of {self._count}, {what}")


def _ended(trial: scaling.Trial, receipt: Receipt) -> None:
    if trial.rate:
        _say(f"  {_number(trial.rate.value)} {trial.rate.unit}/s")
    elif receipt.status in ("failed", "lost"):
        from ..render.columns import width_of
        from ..render.receipt import receipt_text

        _say(receipt_text(receipt, width_of(sys.stderr)))
    else:
        _say(f"  {trial.problem}", "yellow")
    if trial.left:
        _say(f"  {counted(trial.left, 'process')} left: launcher show {trial.run}", "red")


def _number(value: float) -> str:
    """Return four significant digits: ``1,234``, ``12.34``."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _work(found: scaling.Comparison) -> str:
    """Return an amount of work such as ``1M samples``."""
    power, marks = 0, ("", "k", "M", "G", "T", "P")
    while found.work >= 1000 ** (power + 1):
        power += 1
    unit = found.unit or ""
    return f"1{marks[power]} {unit}" if power else unit.removesuffix("s")


def _show(found: scaling.Comparison, caution: str, as_json: bool, interrupted: bool) -> None:
    if as_json:
        value = {**found.to_json(), "caution": caution, "interrupted": interrupted}
        click.echo(json.dumps(value, indent=2))
        return
    if not found.rows:
        click.echo("No trial finished.")
        return
    with suppress(OSError):
        click.echo(_text(found, caution))


def _text(found: scaling.Comparison, caution: str) -> str:
    from ..render.columns import terminal_width

    parts = []
    if found.unit:
        things = "GPUs" if found.device == "GPU" else "processes"
        cost = f"{found.device}-h per {_work(found)}"
        head = ("nodes", things, f"{found.unit}/s", "±", "speed-up", "efficiency", cost, "")
        parts.append(table(head, [_cells(row, found) for row in found.rows]))
        plain = not sys.stdout.isatty()
        lines = chart.bars(found.rows, terminal_width(), plain)
        parts.append("\n".join(["", *lines, ""]))
    else:
        rows = [(str(row.trial.nodes), row.trial.problem) for row in found.rows]
        parts.append(table(("nodes", "problem"), rows))
    parts.append(found.sentence)
    if caution:
        parts.append(f"note: {caution}")
    if any(row.trial.rate is None and row.trial.reason in _WELL for row in found.rows):
        parts.append("hint: allow more time with --for, or show the format with --pattern REGEX")
    return "\n".join(parts)


def _cells(row: scaling.Row, found: scaling.Comparison) -> tuple[str, ...]:
    trial = row.trial
    count = trial.gpus if found.device == "GPU" else trial.processes
    size = (str(trial.nodes), str(count or "-"))
    if trial.rate is None or row.speedup is None:
        return (*size, "-", "-", "-", "-", "-", trial.problem)
    return (
        *size,
        _number(trial.rate.value),
        f"{100 * trial.rate.spread:.0f} %",
        f"{row.speedup:.2f}",
        f"{row.efficiency:.2f}",
        f"{row.cost:.3g}",
        trial.rate.note,
    )


def _draw(output: str, found: scaling.Comparison, job: Job) -> None:
    if found.unit is None:
        note(f"{output} is not written: there is no rate to draw")
        return
    title = f"{job.name or job.script or 'the job'}: {found.unit}/s against 1.00"
    try:
        Path(output).write_text(chart.svg(found.rows, title, found.sentence), "utf-8")
    except OSError as error:
        raise InputError(f"{output} cannot be written: {error.strerror}") from None
