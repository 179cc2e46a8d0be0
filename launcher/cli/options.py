"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..spec import gpu_models, nodeset, rates
from ..spec.errors import InputError
from . import completion

F = TypeVar("F", bound=Callable[..., Any])


def _ranks_of(
    ctx: click.Context, param: click.Parameter, text: str | None
) -> frozenset[int] | None:
    try:
        return None if text is None else nodeset.expand_ranks(text)
    except ValueError as error:
        raise InputError(f"--ranks: {error}") from None


def _count_of(ctx: click.Context, param: click.Parameter, text: str | None) -> int | str | None:
    """Return ``--gpus`` as it stands in a job file: a number, or a model with one."""
    if text is None:
        return None
    try:
        model, count = gpu_models.read_count(text)
    except ValueError as error:
        raise InputError(f"--gpus: {error}") from None
    return text if model else count


def gpus(about: str) -> Callable[[F], F]:
    """Return the option ``--gpus``, a number of GPUs, also of one model."""
    return click.option("--gpus", metavar="N|MODEL:N", callback=_count_of, help=about)


def port(default: int) -> Callable[[F], F]:
    """Return the option ``--port``, on which this machine serves something to its user."""
    return click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=default,
        show_default=True,
        help="Port on 127.0.0.1; 0 takes a free one.",
    )


command_words = click.argument(
    "command_words",
    metavar="JOB.yaml | SCRIPT [ARGS]...",
    nargs=-1,
    required=True,
    shell_complete=completion.scripts,
)

inventory = click.option(
    "-i",
    "--inventory",
    envvar="LAUNCHER_INVENTORY",
    show_envvar=True,
    metavar="FILE",
    help="Inventory file (default: inventory.yaml here, in a folder above, in ~/.launcher).",
    shell_complete=completion.files,
)
hosts = click.option(
    "--hosts",
    envvar="LAUNCHER_HOSTS",
    show_envvar=True,
    metavar="NAMES",
    help="Names, node sets, groups or labels.",
    shell_complete=completion.hosts,
)
nproc_per_node = click.option(
    "--nproc-per-node", type=click.IntRange(1), metavar="N", help="Processes on each host."
)
framework = click.option(
    "--framework",
    envvar="LAUNCHER_FRAMEWORK",
    show_envvar=True,
    metavar="NAME",
    help="torchrun (default), torch, env, ...",
    shell_complete=completion.frameworks,
)
env = click.option(
    "-e",
    "--env",
    "envs",
    multiple=True,
    metavar="K=V",
    help="Set a variable; K alone copies it from this shell.",
)
secret = click.option(
    "--secret",
    "secrets",
    multiple=True,
    metavar="K",
    help="Pass K from this shell; its value is never logged or stored.",
)
data = click.option(
    "--data",
    multiple=True,
    metavar="NAME=FROM[:TO]",
    help="Data set that every host has before the start: a folder, s3://, gs://, az://, https://....",
)
conda = click.option(
    "--conda",
    metavar="NAME|DIR|FILE",
    help="Run in this environment of conda, mamba or pixi, which the hosts have; or build one once on "
    "each host of environment.yml.",
)
uv = click.option(
    "--uv",
    metavar="PATH",
    help="Build an environment once on each host: from a folder with uv.lock or requirements.txt.",
)
image = click.option(
    "--image",
    metavar="NAME|PATH",
    help="Run in this container image: a name, or a Dockerfile, a tar or an OCI folder here, which "
    "hosts get; none: not in that of the job file.",
)
prepare = click.option(
    "--prepare",
    metavar="SH",
    help="Lines of bash that run before each process, such as ulimit -n 65536.",
)
setup = click.option(
    "--setup", metavar="SH", help="Shell script that runs once on every host before the start."
)
share = click.option(
    "--share",
    multiple=True,
    metavar="DIR",
    help="What one host writes in this folder appears on all hosts of the run (repeatable).",
)
max_restarts = click.option(
    "--max-restarts",
    type=click.IntRange(0),
    metavar="N",
    help="Restart all ranks up to N times; a spare host replaces a lost one.",
)
tags = click.option(
    "--tag",
    "tags",
    multiple=True,
    metavar="TAG",
    help="Tag the run; ls --tag finds it (repeatable).",
)
note = click.option("--note", metavar="TEXT", help="A note about the run.")
ranks = click.option(
    "--ranks", metavar="R", callback=_ranks_of, help="Show only these ranks: 0,3-5."
)
raw = click.option(
    "--raw/--no-raw", default=None, help="Pass escape sequences from hosts to the terminal."
)
project = click.option(
    "--project",
    metavar="NAME",
    help="Use GPUs in the name of a project of the inventory; none: of no project.",
)
_WAITING = (
    click.option(
        "--wait",
        metavar="T|forever",
        help="Where GPUs are in use, wait this long for a turn (default at a terminal: forever).",
    ),
    click.option(
        "--no-wait", is_flag=True, default=None, help="Fail at once where GPUs are in use, with 75."
    ),
    click.option(
        "--ignore-foreign",
        is_flag=True,
        default=None,
        help="Share GPUs with programs outside launcher, if no others are free.",
    ),
    click.option("--time", metavar="T", help="End the run T after its start (default: never)."),
    project,
    click.option(
        "--preemptible/--not-preemptible",
        default=None,
        help="Borrow GPUs beyond the project's quota; give them back when asked to, then wait again.",
    ),
    click.option(
        "--priority",
        type=click.Choice(["low", "normal", "high"]),
        help="Whose turn comes first (default: normal).",
    ),
)


def waiting(command: F) -> F:
    """Add the options about a run's turn on GPUs that are in use."""
    for option in reversed(_WAITING):
        command = option(command)
    return command


max_rate = click.option(
    "--max-rate",
    metavar="RATE",
    help="Limit what travels between this machine and the hosts, such as 50MB/s or 400Mbit/s.",
)


def rate_of(text: str | None) -> int:
    """Return the bytes a second of ``--max-rate``; 0 without it. Raises InputError."""
    try:
        return 0 if text is None else rates.rate(text)
    except ValueError as error:
        raise InputError(f"--max-rate: {error}") from None


detach = click.option(
    "-d",
    "--detach/--no-detach",
    default=None,
    help="Return once all ranks have started; the run continues.",
)
python = click.option(
    "--python", metavar="P", help="Python on the hosts: a path, venv:DIR or conda:NAME."
)
run_name = click.option("--name", metavar="NAME", help="Beginning of the run's name.")
workdir = click.option(
    "--workdir",
    metavar="DIR",
    help="Folder to copy (default: this one).",
    shell_complete=completion.folders,
)
yes = click.option("-y", "--yes", is_flag=True, help="Copy the code however large it is.")
no_browser = click.option("--no-browser", is_flag=True, help="Only print the address.")
receipt_as_json = click.option(
    "--json", "as_json", is_flag=True, help="Print the receipt as JSON on stdout."
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout.")
force = click.option("--force", is_flag=True, help="Overwrite existing files.")
