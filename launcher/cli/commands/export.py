"""``launcher export``: write a job as shell scripts, or as a batch file for Slurm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...api import formats, jobs
from ...api.hosts import select_hosts
from ...spec.errors import InputError
from ...spec.model import Job
from .. import options
from ..grouped import CommandGroup
from ..inventory_lookup import loaded, note
from ..render.tables import counted
from .inventory import write_text

_MASTER = click.option("--master-addr", help="Address of the first host.")
_PORT = click.option("--master-port", metavar="P", help="Port on the first host (default: 29500).")


@click.group("export", cls=CommandGroup)
def command() -> None:
    """Write a job as scripts that work without launcher. Values of secrets are left out."""


def _job(file: str, **flags: Any) -> Job:
    given = {name: value for name, value in flags.items() if value is not None}
    values: dict[str, Any] = (
        jobs.load_job(file) if file.endswith((".yaml", ".yml")) else {"run": (file,)}
    )
    # Only names of secrets are written, so their values need not be set.
    named = values.get("secrets") or {}
    values["secrets"] = dict.fromkeys(named, "")
    return jobs.layered_job({"file": values, "flag": given})


@command.command()
@click.argument("file", metavar="SCRIPT.py|JOB.yaml")
@options.inventory
@options.hosts
@click.option("-N", "--nodes", "num_nodes", help="Number of hosts.")
@_MASTER
@_PORT
@click.option(
    "-o", "--output", metavar="DIR", required=True, help="Write the files to this folder."
)
@options.force
def script(file: str, inventory: str | None, output: str, force: bool, **flags: Any) -> None:
    """Write a shell script for each host, and run.sh, which starts them over ssh.

    They follow the plan: env, argv, ranks, address and port. If one fails, all are stopped.
    """
    job = _job(file, **flags)
    known = loaded(inventory, connects=False)
    files, notes = formats.export_scripts(job, known, select_hosts(known, job.hosts))
    folder = Path(output)
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise InputError(f"{folder / there[0]} exists", "--force overwrites it")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, "utf-8")
            (folder / name).chmod(0o644 if name == "ssh_config" else 0o755)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror}") from None
    for one in notes:
        note(one)
    for name in job.secrets:
        note(f"export {name}=... before you start run.sh; no file contains its value")
    click.echo(
        f"{counted(len(files) - 2, 'host')}; start them with: sh {folder / 'run.sh'}", err=True
    )


@command.command()
@click.argument("file", metavar="SCRIPT.py|JOB.yaml")
@click.option("-N", "--nodes", "num_nodes", help="Number of nodes.")
@_MASTER
@_PORT
@click.option("-o", "--output", metavar="FILE", help="Write to this file instead of stdout.")
@options.force
def slurm(file: str, output: str | None, force: bool, **flags: Any) -> None:
    """Write a batch file for sbatch, whose srun sets the ranks (torchrun, torch, env)."""
    job = _job(file, **flags)
    text, notes = formats.export_sbatch(job)
    for one in notes:
        note(one)
    write_text(text, output, force, "a batch file")
