"""``launcher sweep``: run a job with many values, and list, resume and stop such sweeps."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import click

from ...api import formats, jobs, sweeps
from ...api.client import AsyncClient
from ...records.reasons import EndReason
from ...records.receipt import Receipt
from ...records.sweep_folder import SweepSummary, TrialRecord
from ...spec import nodeset
from ...spec.errors import InputError, UnreadableRecord
from ...spec.model import Inventory
from .. import options
from ..asked import asked_for
from ..follow import LET_GO, on_hangup
from ..grouped import CommandGroup, GroupedCommand
from ..inventory_lookup import loaded
from ..inventory_lookup import note as tell
from ..render.columns import output_width
from ..render.sweep_table import number, params_text, sentence, sweeps_table, trials_table
from ..render.tables import counted, duration
from .run import GROUPS
from .run import command as run_command

#: Options of `launcher run` that a sweep has no use for: its trials wait for each other, and their code
#: is copied once, and what they print is not shown.
NOT_OF_TRIALS = frozenset(
    {"inventory", "wait", "no_wait", "detach", "ranks", "raw", "yes", "lease", "stdin"}
)
OWN = ("sampler", "pruner", "metric", "goal", "max_trials", "concurrency", "seed", "max_failures")


class _Sweeps(CommandGroup):
    """Words that are no command of it are a sweep to run."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args.insert(0, "run")
        return super().parse_args(ctx, args)


@click.group(
    "sweep",
    cls=_Sweeps,
    options_metavar="[OPTIONS]",
    subcommand_metavar="JOB.yaml | SCRIPT [ARGS]... | COMMAND",
)
def command() -> None:
    """Run a job with many values; each trial is an ordinary run.

    Several values of an argument make a sweep: --lr '[0.1, 0.01]' --bs '[32, 64]' are four trials. In
    a job file they stand under matrix:. A batch script of Slurm with #SBATCH --array is a sweep of its
    elements. Options come before the script: launcher sweep run --help.
    """


@command.command(
    "run",
    cls=GroupedCommand,
    groups={"Which trials": OWN, **GROUPS},
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@options.command_words
@options.inventory
@options.hosts
@click.option("-N", "--nodes", "num_nodes", metavar="N", help="Hosts of each trial.")
@options.gpus("GPUs of each trial, as 1 or A100:1.")
@options.nproc_per_node
@options.framework
@click.option("--name", help="Beginning of the sweep's name, and of its runs'.")
@click.option("--sampler", type=click.Choice(sweeps.SAMPLERS), help="Which trials.")
@click.option("--pruner", type=click.Choice(sweeps.PRUNERS), help="Stop trials that fall behind.")
@click.option(
    "--metric",
    metavar="REGEX|scalar:TAG",
    help="What a trial prints, 'accuracy: ([0-9.]+)', or writes for TensorBoard.",
)
@click.option("--goal", type=click.Choice(["min", "max"]), help="Which values are better.")
@click.option("--max-trials", type=click.IntRange(1), metavar="N", help="At most N trials.")
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    metavar="N",
    help="N trials at a time (default: as fit).",
)
@click.option("--seed", type=click.IntRange(0), metavar="N", help="Draw the same trials again.")
@click.option("--max-failures", metavar="N|N%", help="Start no more trials once so many failed.")
@click.option(
    "--notify",
    multiple=True,
    metavar="WHERE",
    help="Report the end of the sweep to a URL, desktop, bell, apprise:URL, or a command (repeatable).",
)
@click.option("--dry-run", is_flag=True, help="List the trials; start nothing.")
@options.as_json
@click.pass_context
def run(
    ctx: click.Context,
    /,
    command_words: tuple[str, ...],
    inventory: str | None,
    dry_run: bool,
    as_json: bool,
    **flags: Any,
) -> None:
    """Run a script or a job file once for each combination of values.

    The exit code is 0 if every trial succeeded, 1 if one did not, 130 after Ctrl-C.
    """
    plan, hosts = _planned(ctx, command_words, inventory, flags, connects=not dry_run)
    if dry_run:
        _print_plan(plan, as_json)
        return
    settings = plan.sweep.settings
    record = sweeps.new_record(
        (*_given(ctx), *command_words),
        plan.count,
        tuple(plan.sweep.matrix),
        settings.metric,
        settings.goal,
    )
    start = str(flags.get("name") or plan.sweep.values.get("name") or "")
    folder = sweeps.SweepFolder.create(start or _stem(command_words), record)
    ctx.exit(_follow(plan, hosts, folder, as_json))


_named = {option.name for option in run.params} | NOT_OF_TRIALS
run.params += [option for option in run_command.params if option.name not in _named]


@command.command()
@click.argument("name", metavar="SWEEP")
@options.as_json
@click.pass_context
def resume(ctx: click.Context, name: str, as_json: bool) -> None:
    """Run the trials of a sweep that have not succeeded: failed, lost, stopped, not started.

    The job file and the code are taken as they are now, in the folder where the sweep was typed.
    """
    folder = sweeps.SweepFolder.find(name)
    record = folder.record()
    try:
        os.chdir(record.cwd)
    except OSError as error:
        raise InputError(f"{record.cwd}: {error.strerror}", "the sweep was typed there") from None
    again = run.make_context("run", list(record.argv), parent=ctx.parent)
    given = dict(again.params)
    for own in ("dry_run", "as_json"):
        given.pop(own)
    plan, hosts = _planned(
        again, given.pop("command_words"), given.pop("inventory"), given, connects=True
    )
    ctx.exit(_follow(plan, hosts, folder, as_json))


@command.command()
@options.as_json
def ls(as_json: bool) -> None:
    """List the sweeps of this machine, the latest first, each with its best trial."""
    found = []
    for name in reversed(sweeps.names()):
        try:
            found.append(sweeps.SweepFolder.find(name).summary())
        except UnreadableRecord as error:
            click.echo(f"warning: {error.message}", err=True)
    if as_json:
        click.echo(json.dumps([_as_json(one) for one in found], indent=2))
    elif not found:
        click.echo(
            "no sweeps yet; start one with: launcher sweep SCRIPT --lr '[0.1, 0.01]'", err=True
        )
    else:
        click.echo(sweeps_table(found, output_width()))


@command.command()
@click.argument("name", metavar="SWEEP")
@options.as_json
@click.option("--svg", metavar="FILE", help="Draw the values of its trials into this file.")
def show(name: str, as_json: bool, svg: str | None) -> None:
    """Show the trials of a sweep, the best first."""
    found = sweeps.SweepFolder.find(name).summary()
    if svg is not None:
        _draw(found, svg)
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2))
        return
    _print(found)


@command.command()
@click.argument("name", metavar="SWEEP")
def stop(name: str) -> None:
    """Stop a sweep and its trials that run; `launcher sweep resume` continues it."""
    folder = sweeps.SweepFolder.find(name)
    if sweeps.stop(folder):
        click.echo(f"{folder.name} is stopping: launcher sweep show {folder.name}", err=True)
        return
    stopped = asyncio.run(_stop_runs(folder))
    if stopped:
        click.echo(f"stopped {counted(len(stopped), 'trial')} of {folder.name}", err=True)
    else:
        click.echo(f"{folder.name} does not run", err=True)


def _draw(found: SweepSummary, file: str) -> None:
    from ..render.sweep_picture import svg

    try:
        Path(file).write_text(svg(found), "utf-8")
    except OSError as error:
        raise InputError(f"cannot write {file}: {error.strerror}") from None


# -- what was asked for


def _planned(
    ctx: click.Context,
    words: tuple[str, ...],
    inventory: str | None,
    flags: dict[str, Any],
    connects: bool,
) -> tuple[sweeps.Planned, Inventory]:
    given = {field.name: flags.pop(field.name) for field in fields(sweeps.Settings)}
    settings = {name: value for name, value in given.items() if value is not None}
    for name, convert in (("metric", sweeps.metric), ("max_failures", sweeps.failures)):
        if name in settings:
            try:
                settings[name] = convert(settings[name])
            except ValueError as error:
                raise InputError(f"--{name.replace('_', '-')}: {error}") from None
    read: Mapping[str, Any] | None = None
    if words[0].endswith((".yaml", ".yml")):
        sweep = sweeps.load_sweep(words[0])
    elif flags.get("framework") is None and (array := formats.batch_sweep(words)) is not None:
        for one in array.notes:
            tell(f"{words[0]}: {one}")
        sweep, read = array.sweep, {**array.sweep.values, **array.options}
    else:
        command, matrix = sweeps.from_words(words, flags.get("envs") or ())
        if misplaced := jobs.misplaced_option(command, "launcher sweep"):
            tell(f"{misplaced[0]} goes to {words[0]}; for launcher write {misplaced[1]}")
        sweep = sweeps.Sweep({"run": command}, matrix, sweeps.Settings())
    asked = asked_for(ctx, words, flags, sweep.values if read is None else read)
    sweep = replace(sweep, settings=replace(sweep.settings, **settings))
    hosts = loaded(inventory or asked.options.get("inventory"), connects=connects)
    given = {name: one for name, one in asked.options.items() if name not in NOT_OF_TRIALS}
    return sweeps.planned(sweep, asked.layers, hosts, given), hosts


def _given(ctx: click.Context) -> list[str]:
    """Return the options of a command line again, so that `resume` reads them as they were typed."""
    found = []
    for option in ctx.command.params:
        value = ctx.params.get(option.name or "")
        if not isinstance(option, click.Option) or value in (None, ()):
            continue
        if option.is_flag:
            names = option.opts if value else option.secondary_opts
            found += names[:1] if option.name not in ("as_json", "dry_run") else []
        else:
            for one in value if option.multiple else [value]:
                found += [option.opts[-1], str(one)]
    return found


def _stem(words: Sequence[str]) -> str:
    name = os.path.basename(words[0]).partition(".")[0]
    return "".join(char for char in name if char.isascii() and char.isalnum())[:30] or "job"


def _print_plan(plan: sweeps.Planned, as_json: bool) -> None:
    if as_json:
        value = [{"id": trial.id, "params": dict(trial.params)} for trial in plan.trials]
        value = [] if plan.is_chosen else value
        click.echo(json.dumps(value, indent=2))
        return
    for trial in () if plan.is_chosen else plan.trials:
        click.echo(params_text(trial.params))
    click.echo(f"{counted(plan.count, 'trial')}, {_at_a_time(plan)}", err=True)


def _at_a_time(plan: sweeps.Planned) -> str:
    chosen = ", each chosen when it starts" if plan.is_chosen else ""
    return f"{min(len(plan.slots), plan.count)} at a time{chosen}"


# -- running it


def _follow(
    plan: sweeps.Planned, hosts: Inventory, folder: sweeps.SweepFolder, as_json: bool
) -> int:
    """Run the trials, show them, and return the exit code."""
    with folder.held():
        folder.write(plan.renewed(folder.record(), folder.trials()))
        click.echo(
            f"sweep {click.style(folder.name, bold=True)}: {counted(plan.count, 'trial')}, "
            f"{_at_a_time(plan)}",
            err=True,
        )
        code = asyncio.run(_run(plan, hosts, folder))
        found = folder.summary()
    if code == LET_GO:
        _say(f"let go; running trials continue. Follow them: launcher sweep resume {folder.name}")
        return code
    if as_json:
        click.echo(json.dumps(_as_json(found), indent=2))
    else:
        _print(found)
    done = plan.done(folder.trials()) == plan.count
    if not done:
        click.echo(f"  try the rest again: launcher sweep resume {folder.name}", err=True)
    return code or int(not done)


async def _run(plan: sweeps.Planned, hosts: Inventory, folder: sweeps.SweepFolder) -> int:
    """Run the trials; return 130 if the user stopped them, and 143 if a signal let go of them."""
    done = plan.done(folder.trials())
    # Many runs would ask for a passphrase at once: the ssh-agent has to hold the key.
    async with AsyncClient(hosts, command_line=tuple(sys.argv)) as client:
        trials = sweeps.Trials(client, folder, plan, _Screen(plan.count, done))

        def asked() -> None:
            _say("killing now" if trials.is_stopping else "stopping all trials", "yellow")
            trials.stop()

        leaving = asyncio.Event()
        on_hangup(leaving.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, asked)
        running = asyncio.ensure_future(trials.all())
        left = asyncio.ensure_future(leaving.wait())
        await asyncio.wait((running, left), return_when=asyncio.FIRST_COMPLETED)
        left.cancel()
        if not running.done():
            await trials.let_go()
        await running
        if not leaving.is_set():
            for failure in await trials.tell(f"{folder.name}: {sentence(folder.summary())}"):
                tell(f"nobody was told by {failure}")
        return LET_GO if leaving.is_set() else 130 * trials.is_stopping


async def _stop_runs(folder: sweeps.SweepFolder) -> list[TrialRecord]:
    async with AsyncClient() as client:
        return await sweeps.stop_runs(client, folder)


class _Screen(sweeps.Listener):
    """Prints a line for each trial that ends, and what the first failed ones said."""

    def __init__(self, count: int, done: int) -> None:
        self._count, self._done = count, done
        self._told: set[str] = set()

    def started(self, trial: TrialRecord) -> None:
        _say(f"started  {params_text(trial.params)}  {trial.run}", dim=True)

    def ended(self, trial: TrialRecord, receipt: Receipt) -> None:
        self._done += 1
        value = "" if trial.value is None else f"  {number(trial.value)}"
        took = duration(trial.seconds or 0.0)
        done = f"[{self._done}/{self._count}]"
        line = f"{done} {trial.status}  {params_text(trial.params)}{value}  {took}  {trial.run}"
        _say(line, "red" if trial.failed else None)
        if trial.failed and trial.reason not in self._told and (why := _why(receipt)):
            self._told.add(trial.reason)  # the same again would only hide what is new
            _say(f"  {why}", "red")

    def waiting(self, trial: TrialRecord, receipt: Receipt) -> None:
        _say(f"waits    {params_text(trial.params)}: {receipt.error}", "yellow")

    def left_out(self, hosts: frozenset[str]) -> None:
        _say(f"{nodeset.fold(hosts)}: three trials failed in a row; no more start there", "yellow")


def _why(receipt: Receipt) -> str:
    """Return in a line why a trial failed, unless the end of the sweep will say it."""
    if receipt.failure and receipt.failure.last_lines:
        return f"{receipt.failure.host}: {receipt.failure.last_lines[-1]}"
    return "" if receipt.reason == EndReason.DOES_NOT_FIT else receipt.error.partition("\n")[0]


def _say(text: str, colour: str | None = None, dim: bool = False) -> None:
    with suppress(OSError):  # the terminal is gone; the sweep continues
        click.secho(text, fg=colour, dim=dim, err=True)


def _print(found: SweepSummary) -> None:
    if found.trials:
        click.echo(trials_table(found, output_width()))
    click.echo(sentence(found), err=not sys.stdout.isatty())


def _as_json(found: SweepSummary) -> dict[str, Any]:
    return {
        "sweep": found.name,
        "running": found.is_held,
        **asdict(found.record),
        "results": [asdict(trial) for trial in found.ranked],
    }
