"""``launcher run``: make a job of flags, run it, and show it."""

from __future__ import annotations

import asyncio
import json
import sys
import warnings
from typing import Any

import click

from ...api import jobs
from ...spec.model import Inventory, Job
from .. import completion, options
from ..asked import asked_for
from ..before_copy import ask_about_size, tell_local_paths
from ..follow import begin
from ..grouped import GroupedCommand
from ..inventory_lookup import loaded
from ..inventory_lookup import note as tell
from ..run_argument import new_client

#: The parameters of `launcher run` as its help groups them.
GROUPS = {
    "Where": (
        "inventory",
        "hosts",
        "num_nodes",
        "gpus",
        "gpu_ids",
        "nproc_per_node",
        "master_addr",
        "master_port",
    ),
    "What": (
        "framework",
        "workdir",
        "data",
        "data_credential",
        "envs",
        "secrets",
        "stdin",
        "python",
        "conda",
        "venv",
        "uv",
        "wheels",
        "pixi",
        "image",
        "build_args",
        "runtime",
        "mounts",
        "modules",
        "prepare",
        "preload",
        "keep_warm",
        "setup",
        "include",
        "from",
        "check",
        "yes",
    ),
    "When": (
        "wait",
        "no_wait",
        "ignore_foreign",
        "time",
        "priority",
        "project",
        "preemptible",
    ),
    "Which run": ("name", "tags", "note", "detach", "dry_run", "notify"),
    "Results": (
        "outputs",
        "output_to",
        "output_credential",
        "share",
        "bring",
        "keep_on_host",
        "pull_every",
        "max_rate",
        "ranks",
        "raw",
        "as_json",
    ),
    "When something breaks": (
        "max_restarts",
        "min_nodes",
        "lost_after",
        "stall_timeout",
        "on_stall",
        "orphan_timeout",
        "grace",
    ),
}
EXAMPLES = (
    "launcher run train.py --lr 0.1               all free GPUs of one host",
    "launcher run --gpus A100:4 train.py          four A100, on the fewest hosts",
    "launcher run --nodes 2 train.py              all free GPUs of two hosts",
    "launcher run -d --gpus 16 job.yaml           in the background; then logs -f",
    "launcher run --framework env 'make train'    once on each host",
)


@click.command(
    "run",
    cls=GroupedCommand,
    groups=GROUPS,
    examples=EXAMPLES,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@options.command_words
@options.inventory
@options.hosts
@click.option("-N", "--nodes", "num_nodes", metavar="N|MIN:MAX", help="Number of hosts.")
@options.gpus("Total GPUs over all hosts, as 4 or A100:4; launcher chooses the hosts.")
@click.option(
    "--gpu-ids",
    metavar="IDS",
    help="Which GPUs of each host: indices (0,2-3), UUIDs, or 1:0 for a MIG instance.",
)
@options.nproc_per_node
@options.framework
@options.run_name
@options.workdir
@options.env
@options.secret
@options.data
@click.option(
    "--data-credential",
    multiple=True,
    metavar="[NAME=]CREDENTIAL",
    help="Read the store of that set of --data, or of all of them, with this credential of launcher "
    "credential.",
    shell_complete=completion.credentials,
)
@options.python
@options.conda
@click.option(
    "--venv", metavar="DIR", help="Run in this virtual environment, which the hosts have."
)
@options.uv
@click.option(
    "--wheels",
    metavar="fetch|DIR",
    help="Where hosts take packages for --uv from, without a registry: from this machine, which fetches "
    "them (fetch), or from this folder alone.",
)
@click.option(
    "--pixi",
    metavar="DIR",
    help="Build the default environment of this folder's pixi.lock once on each host.",
)
@options.image
@click.option(
    "--build-arg",
    "build_args",
    multiple=True,
    metavar="NAME=VALUE",
    help="Value of an ARG in the Dockerfile that --image names (repeatable).",
)
@click.option(
    "--runtime",
    metavar="NAME",
    help="podman, docker, apptainer or bwrap (default: what the hosts have).",
)
@click.option(
    "--mount",
    "mounts",
    multiple=True,
    metavar="PATH",
    help="Path of the hosts that the image sees, as /data or /srv/x:/x:ro (repeatable).",
)
@click.option(
    "--module",
    "modules",
    multiple=True,
    metavar="NAME",
    help="Environment module to load before each process, as cuda/12.4 (repeatable).",
)
@options.prepare
@click.option(
    "--preload",
    multiple=True,
    metavar="MODULES",
    help="Import these once on each host, ahead of its ranks: torch,transformers.",
)
@click.option(
    "--keep-warm",
    metavar="T",
    help="Keep what was imported on the hosts for the next run, for T: 10m; launcher warm shows it.",
)
@options.setup
@click.option(
    "--include",
    multiple=True,
    metavar="PATH",
    help="Also copy this path, although .gitignore or --output leaves it out (repeatable).",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="PATH",
    help="Also bring back this path of the workdir, /abs or ~/path (repeatable); auto: small files.",
)
@click.option(
    "--output-to",
    metavar="URL",
    help="Also store all outputs at the end: s3://bucket/path, gs://, az://; {{run}} is the run's name.",
)
@click.option(
    "--output-credential",
    metavar="NAME",
    help="Store them with this credential of launcher credential; none: with what AWS's tools find.",
    shell_complete=completion.credentials,
)
@click.option(
    "--from",
    "from",
    metavar="RUN[:PATH]",
    shell_complete=completion.runs,
    help="Give the hosts the outputs of this run first, at the same paths.",
)
@options.share
@click.option(
    "--bring",
    multiple=True,
    metavar="PATTERN",
    help="Bring back only these outputs, such as '*.json' (repeatable).",
)
@click.option(
    "--keep-on-host",
    multiple=True,
    metavar="PATTERN",
    help="Leave these outputs on the hosts, such as '*.pt' (repeatable).",
)
@click.option(
    "--master-addr",
    metavar="ADDRESS",
    help="Address of the first host (default: found and tested).",
)
@click.option("--master-port", metavar="P|P-Q", help="Port or range (default: 20000-32000).")
@click.option("--grace", metavar="T", help="Time between SIGTERM and SIGKILL (default: 10s).")
@click.option("--pull-every", metavar="T", help="Bring outputs back this often (default: 30s).")
@options.max_rate
@click.option(
    "--lost-after",
    metavar="T",
    help="Treat a host as lost after T without an answer (default: 5m).",
)
@click.option(
    "--orphan-timeout",
    metavar="T",
    help="Hosts stop the run when no launcher contacted them for T (default: never).",
)
@click.option("--lease", hidden=True)  # its name until 0.1
@click.option(
    "--stall-timeout", metavar="T", help="Report when no rank makes progress for T (default: 10m)."
)
@click.option(
    "--on-stall",
    type=click.Choice(["report", "stop"]),
    help="On a stall: report and continue (default), or stop the run.",
)
@options.max_restarts
@click.option(
    "--min-nodes",
    type=click.IntRange(1),
    metavar="M",
    help="Continue with as few as M hosts when no spare is left.",
)
@click.option(
    "--notify",
    multiple=True,
    metavar="WHERE",
    help="Report a start after a wait, the end, a stall or a lost host to a URL, desktop, bell, "
    "apprise:URL, or a command (repeatable).",
)
@options.waiting
@options.tags
@options.note
@click.option(
    "--stdin",
    is_flag=True,
    default=None,
    help="Rank 0 reads what launcher has on its stdin, such as a pipe.",
)
@options.ranks
@options.raw
@options.detach
@options.yes
@click.option(
    "--check/--no-check", default=None, help="Check the hosts before the start (default)."
)
@click.option("--dry-run", is_flag=True, help="Print the plan; connect to no host.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the receipt (or plan) as JSON on stdout."
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    command_words: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    as_json: bool,
    lease: str | None,
    **flags: Any,
) -> None:
    """Run a script or a job file on the hosts, and follow it until it ends.

    Options come before the script; everything after it is passed to the script. They may also stand in
    the job file and in settings, which launcher config shows. The exit code is that of the first program
    that failed, 125 if launcher failed, 130 after Ctrl-C. SIGTERM and a closed terminal leave the run
    running, with 143. After a minute, Ctrl-C at a terminal asks first.
    """
    if lease is not None:
        warnings.warn("--lease is now --orphan-timeout", FutureWarning, stacklevel=1)
        flags["orphan_timeout"] = flags["orphan_timeout"] or lease
    asked = asked_for(ctx, command_words, flags)
    job, given = jobs.layered_job(asked.layers), dict(asked.options)
    tell_local_paths(job)
    if misplaced := jobs.misplaced_option(command_words):
        tell(f"{misplaced[0]} goes to {command_words[0]}; for launcher write {misplaced[1]}")
    hosts = loaded(given.pop("inventory", None), connects=not dry_run)
    if dry_run:
        _print_plan(job, hosts, as_json)
        return
    ask_about_size(job, yes)
    from ..render.run_view import Screen

    ranks, raw = given.pop("ranks", None), bool(given.pop("raw", False))
    screen = Screen(ranks=ranks, raw=raw, logs_to_stderr=as_json)
    detach = bool(given.pop("detach", False))
    screen.has_keys = not given.get("stdin")  # else they are rank 0's
    run_options = jobs.run_options(given)
    if screen.columns is not None:
        run_options["columns"] = screen.columns
    if "wait" not in run_options:  # somebody at a terminal sees it wait; a script gets an exit code
        waits = jobs.can_wait(job) and sys.stderr.isatty()
        run_options["wait"] = None if waits else 0.0
    started = begin(
        new_client(hosts),
        lambda client: client.run(
            job, detach=detach, on_event=screen.on_event, on_log=screen.on_log, **run_options
        ),
        screen,
        detach,
        as_json,
    )
    ctx.exit(asyncio.run(started))


def _print_plan(job: Job, hosts: Inventory, as_json: bool) -> None:
    plan = jobs.dry_run(job, hosts)
    spares = jobs.spare_names(job, hosts, plan)
    if as_json:
        click.echo(json.dumps(jobs.describe_plan(plan, job, spares), indent=2))
        return
    from ..render.plan import plan_text

    click.echo(plan_text(plan, job, spares, jobs.gpu_bounds(plan)))
