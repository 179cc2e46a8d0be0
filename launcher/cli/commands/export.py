"""``launcher export``: a job as plain shell scripts, or as a batch file for Slurm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...api import formats, jobs
from ...api.hosts import select_hosts
from ...spec.errors import InputError
from ...spec.model import Job
from .. import options
from ..inventory_lookup import loaded, note
from .inventory import write_text

_MASTER = click.option("--master-addr", help="Address of the first host.")
_PORT = click.option("--master-port", metavar="P", help="Port there (default: 29500).")


@click.group("export")
def command() -> None:
    """Writes a job as text that works without launcher. Values of secrets are not in it."""


def _job(file: str, **flags: Any) -> Job:
    given = {name: value for name, value in flags.items() if value is not None}
    values: dict[str, Any] = (
        jobs.load_job(file) if file.endswith((".yaml", ".yml")) else {"run": (file,)}
    )
    # Nobody needs the value of a secret to write its name.
    named = values.get("secrets") or {}
    values["secrets"] = dict.fromkeys(named, "")
    return jobs.layered_job({"file": values, "flag": given})


@command.command(short_help="sh for each host, and run.sh for all")
@click.argument("file", metavar="SCRIPT.py|JOB.yaml")
@options.inventory
@options.hosts
@click.option("-N", "--nodes", "num_nodes", help="Number of hosts.")
@_MASTER
@_PORT
@click.option("-o", "--output", metavar="DIR", required=True, help="Write the files there.")
@options.force
def script(file: str, inventory: str | None, output: str, force: bool, **flags: Any) -> None:
    """A shell script for each host, and run.sh, which starts all of them over ssh.

    They do what the plan says (env, argv, ranks, address and port). All are stopped when one fails.
    """
    job = _job(file, **flags)
    known = loaded(inventory)
    files, notes = formats.export_scripts(job, known, select_hosts(known, job.hosts))
    folder = Path(output)
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise InputError(f"{folder / there[0]} is there already", "--force overwrites it")
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
        note(f"export {name}=... before run.sh: its value is in no file")
    click.echo(f"{len(files) - 2} hosts: sh {folder / 'run.sh'}", err=True)


@command.command(short_help="a batch file for sbatch")
@click.argument("file", metavar="SCRIPT.py|JOB.yaml")
@click.option("-N", "--nodes", "num_nodes", help="Number of nodes.")
@_MASTER
@_PORT
@click.option("-o", "--output", metavar="FILE", help="Write there instead of stdout.")
@options.force
def slurm(file: str, output: str | None, force: bool, **flags: Any) -> None:
    """A batch file for sbatch, whose srun sets the ranks (torchrun, torch, env)."""
    job = _job(file, **flags)
    text, notes = formats.export_sbatch(job)
    for one in notes:
        note(one)
    write_text(text, output, force, "a batch file")
