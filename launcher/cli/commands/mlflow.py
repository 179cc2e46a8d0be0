"""``launcher mlflow log``: what runs recorded goes to an MLflow server from here."""

from __future__ import annotations

import os

import click

from ...api.client import Client
from ...api.jobs import arguments_of
from ...spec.errors import InputError, LauncherError
from .. import completion
from ..grouped import CommandGroup
from ..render.tables import counted

#: The experiment that gets runs where none is named.
EXPERIMENT = "launcher"


@click.group("mlflow", cls=CommandGroup)
def command() -> None:
    """Hand what runs recorded to MLflow. Hosts need no way to it, and get none of its secrets."""


@command.command("log")
@click.argument("words", metavar="RUN...", nargs=-1, required=True, shell_complete=completion.runs)
@click.option("--to", "server", metavar="URL", help="The server (default: MLFLOW_TRACKING_URI).")
@click.option(
    "--experiment",
    metavar="NAME",
    help=f"Which experiment gets them (default: MLFLOW_EXPERIMENT_NAME, else {EXPERIMENT}).",
)
@click.pass_context
def log_command(
    ctx: click.Context, words: tuple[str, ...], server: str | None, experiment: str | None
) -> None:
    """Send the parameters, curves and endings of runs to an MLflow server.

    RUN may be a pattern such as 'sweep-*'. Of a run that goes on, call it again later: what the server
    has is not sent twice. The curves are those of launcher console, whole up to 4000 points each. The
    exit code is 1 if a run could not be sent.
    """
    server = server or os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        raise InputError(
            "launcher mlflow needs the address of a server",
            "--to http://mlflow.lab:5000, or MLFLOW_TRACKING_URI",
        )
    client = Client()
    runs = client.select(words)
    if not runs:
        raise InputError(f"no run matches {' '.join(words)}", "launcher ls --all")
    from ...api.tracking import Tracking, without_password

    named = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    there = Tracking(server, named)
    width, failed = max(len(one.run) for one in runs), 0
    for one in runs:
        try:
            sent = there.log(one, arguments_of(client.attach(one.run).job))
        except LauncherError as error:
            failed += 1
            click.echo(f"{one.run:<{width}}  not sent: {error}", err=True)
            continue
        what = f"{'new' if sent.new else 'known'}, {counted(sent.points, 'point')} sent"
        click.echo(f"{one.run:<{width}}  {what}  {sent.where}")
    ending = f"in experiment {named} of {without_password(server)}"
    click.echo(f"{counted(len(runs) - failed, 'run')} {ending}", err=True)
    ctx.exit(1 if failed else 0)
