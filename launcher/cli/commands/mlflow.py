"""``launcher mlflow log``: what runs recorded goes to an MLflow server from here."""

from __future__ import annotations

import os

import click

from ...api.client import Client
from ...spec.errors import InputError
from .. import completion
from ..render.tables import counted

#: The experiment that gets runs where none is named.
EXPERIMENT = "launcher"


@click.group("mlflow")
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
def log_command(words: tuple[str, ...], server: str | None, experiment: str | None) -> None:
    """Send parameters, curves and how it ended of runs to an MLflow server.

    RUN may be a pattern such as 'sweep-*'. Of a run that goes on, call it again later: what the server
    has is not sent twice. The curves are those of launcher console, whole up to 4000 points each.
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
    width = max(len(one.run) for one in runs)
    for one in runs:
        job = client.attach(one.run).job
        arguments = job.run[1:] if job and not job.shell else ()
        sent = there.log(one, arguments)
        what = f"{'new' if sent.new else 'known'}, {counted(sent.points, 'point')} sent"
        click.echo(f"{one.run:<{width}}  {what}  {sent.where}")
    ending = f"in experiment {named} of {without_password(server)}"
    click.echo(f"{counted(len(runs), 'run')} {ending}", err=True)
