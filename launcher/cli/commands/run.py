"""``launcher run``: flags to a job, a job to a run, events to a screen."""

from __future__ import annotations

import asyncio
import json
import os
import warnings
from typing import Any

import click

from ...api import jobs
from ...api.client import RunOptions
from ...jobs import foreign_terms
from ...spec.errors import InputError
from ...spec.model import Inventory, Job, Resources
from .. import completion, options
from ..follow import begin
from ..inventory_lookup import loaded
from ..run_argument import new_client


@click.command(
    "run",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@click.argument(
    "command_words",
    metavar="JOB.yaml | SCRIPT [ARGS]...",
    nargs=-1,
    required=True,
    shell_complete=completion.scripts,
)
@options.inventory
@options.hosts
@click.option("-N", "--nodes", "num_nodes", metavar="N|MIN:MAX", help="Number of hosts.")
@click.option("--gpus", type=click.IntRange(0), help="GPUs in all; decides hosts by itself.")
@options.nproc_per_node
@options.framework
@click.option("--name", help="Start of the run's name.")
@click.option("--workdir", help="Folder to copy (default: this one).")
@click.option(
    "-e", "--env", "envs", multiple=True, metavar="K=V", help="Variable; K alone: from here."
)
@click.option(
    "--secret", "secrets", multiple=True, metavar="K", help="Variable that nothing shows."
)
@click.option("--setup", help="Shell script, once on every host before the start.")
@click.option("--output", "outputs", multiple=True, metavar="PATH", help="Bring this back, too.")
@click.option("--master-addr", help="Address of the first host (default: found).")
@click.option("--master-port", metavar="P|P-Q", help="Port or range (default: 20000-32000).")
@click.option("--grace", metavar="T", help="Between asking to end and killing (default: 10s).")
@click.option("--pull-every", default="30s", metavar="T", help="Bring outputs back this often.")
@click.option("--lost-after", default="5m", metavar="T", help="Give up a silent host after this.")
@click.option(
    "--orphan-timeout", metavar="T", help="Hosts that nobody reaches for this long stop the run."
)
@click.option("--lease", hidden=True)  # its name until 0.1
@click.option(
    "--stall-timeout", metavar="T", help="Tell when no rank does anything (default: 10m)."
)
@click.option(
    "--on-stall",
    type=click.Choice(["report", "stop"]),
    default="report",
    help="Then go on (default), or stop.",
)
@click.option(
    "--max-restarts", type=click.IntRange(0), metavar="N",
    help="Start all ranks again after a failure, so often; a spare takes a lost host's place.",
)  # fmt: skip
@click.option(
    "--min-nodes", type=click.IntRange(1), metavar="M",
    help="Without a spare, go on with fewer hosts, but not with fewer than M.",
)  # fmt: skip
@options.ranks
@options.raw
@options.detach
@click.option(
    "--no-check", is_flag=True, help="Run even where the hosts' facts say it is pointless."
)
@click.option("--dry-run", is_flag=True, help="Print the plan; touch no host.")
@click.option("--json", "as_json", is_flag=True, help="Receipt (or plan) as JSON on stdout.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    command_words: tuple[str, ...],
    inventory: str | None,
    ranks: frozenset[int] | None,
    raw: bool,
    no_check: bool,
    dry_run: bool,
    detach: bool,
    as_json: bool,
    pull_every: str,
    lost_after: str,
    orphan_timeout: str | None,
    lease: str | None,
    stall_timeout: str | None,
    on_stall: str,
    **flags: Any,
) -> None:
    """Takes a script, or what a job file says, to the hosts and follows it to the end.

    Options stand before the script; what follows it is passed on as it is. The exit code is that of
    the program that failed first, 125 when launcher failed, 130 after Ctrl-C.
    """
    if lease is not None:
        warnings.warn("--lease is now --orphan-timeout", FutureWarning, stacklevel=1)
    job = job_of(ctx, command_words, flags)
    hosts = loaded(inventory)
    if dry_run:
        _print_plan(job, hosts, as_json)
        return
    from ..render.run_view import Screen

    screen = Screen(ranks=ranks, raw=raw, logs_to_stderr=as_json)
    treatment = RunOptions(
        pull_every=seconds("--pull-every", pull_every),
        lost_after=seconds("--lost-after", lost_after),
        orphan_timeout=_some_seconds("--orphan-timeout", orphan_timeout or lease),
        stall_timeout=_some_seconds("--stall-timeout", stall_timeout),
        stop_stalled=on_stall == "stop",
        check=not no_check,
    )
    callbacks: Any = {"on_event": screen.on_event, "on_log": screen.on_log}
    started = begin(
        new_client(hosts, screen.ask_passphrase),
        lambda client: client.run(job, detach=detach, **callbacks, **treatment),
        screen,
        detach,
        as_json,
    )
    ctx.exit(asyncio.run(started))


# -- from words to a job


def job_of(ctx: click.Context, words: tuple[str, ...], flags: dict[str, Any]) -> Job:
    """The job of a command line: a job file or a script, and flags by their names in a job file.

    Raises InputError.
    """
    known = [name for one in ctx.command.params for name in one.opts if name.startswith("-")]
    foreign_terms.check_options(words, known, str(ctx.info_name))
    layers: dict[str, dict[str, Any]] = {}
    if words[0].endswith((".yaml", ".yml")):
        if len(words) > 1:
            raise InputError(
                f"{words[0]} says what to run; {words[1]!r} cannot be added",
                "options stand before the job file; change run: in the file",
            )
        layers["file"] = jobs.load_job(words[0])
    else:
        flags["run"] = words
    for name, value in _values(flags).items():
        layers.setdefault(_origin(ctx, name), {})[name] = value
    for low, high in (("file", "environment"), ("environment", "flag")):
        if low in layers and high in layers:  # so that dictionaries stand in rising order
            layers[high] = layers.pop(high)
    _merge_resources(layers)
    return jobs.layered_job(layers)


def _origin(ctx: click.Context, name: str) -> str:
    source = ctx.get_parameter_source(name)
    return "environment" if source == click.core.ParameterSource.ENVIRONMENT else "flag"


def _values(flags: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, as a job file would say them."""
    given = {name: value for name, value in flags.items() if value not in (None, ())}
    if "envs" in given:
        given["envs"] = dict(_variable(text) for text in given["envs"])
    if "secrets" in given:
        given["secrets"] = dict.fromkeys(given["secrets"])
    return given


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        if name not in os.environ:
            raise InputError(f"--env {name}: it is not set here", f"--env {name}=VALUE")
        value = os.environ[name]
    if not name.isidentifier():
        raise InputError(f"--env {text}: {name!r} cannot be the name of a variable")
    return name, value


def _merge_resources(layers: dict[str, dict[str, Any]]) -> None:
    """``--gpus`` and ``--nproc-per-node`` are the file's ``resources``."""
    known: dict[str, Any] = {}
    for values in layers.values():
        if "resources" in values:
            known = vars(values["resources"])
        names = [name for name in ("gpus", "nproc_per_node") if name in values]
        given: dict[str, Any] = {name: values.pop(name) for name in names}
        if given:
            known = {**known, **given}
            values["resources"] = Resources(**known)


def seconds(flag: str, text: str) -> float:
    """The duration that a flag names. Raises InputError."""
    try:
        return jobs.seconds(text)
    except ValueError as error:
        raise InputError(f"{flag}: {error}") from None


def _some_seconds(flag: str, text: str | None) -> float | None:
    """A duration that can be left out, but not be nothing."""
    if text is None:
        return None
    found = seconds(flag, text)
    if found <= 0:
        raise InputError(f"{flag} {text}: has to be more than nothing", "leave it out for never")
    return found


def _print_plan(job: Job, hosts: Inventory, as_json: bool) -> None:
    plan = jobs.dry_run(job, hosts)
    spares = jobs.spare_names(job, hosts, plan)
    if as_json:
        click.echo(json.dumps(jobs.describe_plan(plan, job, spares), indent=2))
        return
    from ..render.plan import plan_text

    click.echo(plan_text(plan, job, spares))
