"""Import and export files of other tools: inventories, tasks and scripts."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..jobs.environments import with_python
from ..spec.errors import DocumentError, InputError
from ..spec.files import read_text
from ..spec.frozen import frozen
from ..spec.model import Host, Inventory, Job

if TYPE_CHECKING:
    from ..jobs.sweep_file import Sweep

#: Formats of task files, and of inventories that are written.
TASKS = ("skypilot", "dstack", "polyaxon", "osmo", "slurm")
EXPORTS = ("hostfile", "ssh_config", "ansible")


def read_file(file: str, what: str) -> tuple[str, str]:
    """Return the text and name of a small file, or of stdin for ``-``. Raises DocumentError."""
    if file == "-":
        return read_text("/dev/stdin", what), "stdin"
    return read_text(file, what), file


def import_inventory(text: str, source: str, form: str | None = None) -> tuple[Inventory, str]:
    """Convert another tool's list of hosts; return the inventory, and its text in our format.

    ``form`` is a format of :mod:`launcher.interop.inventories`; None guesses it. The inventory's notes
    list what could not be converted. Raises DocumentError, InputError.
    """
    from ..interop import inventories
    from ..spec.inventory_writer import inventory_text

    try:
        name, found = inventories.read(text, source, form)
    except DocumentError:
        if form is None and _is_ours(text, source):
            raise InputError(
                f"{source} already is a launcher inventory", f"use it as it is: -i {source}"
            ) from None
        raise
    inventory = found.inventory()
    head = [f"From {source} ({inventories.get(name).about}), by: launcher inventory import"]
    return inventory, inventory_text(inventory, head)


def _is_ours(text: str, source: str) -> bool:
    from ..spec import inventory

    try:
        inventory.load(text, source)
    except DocumentError:
        return False
    return True


def export_inventory(inventory: Inventory, form: str) -> tuple[str, Sequence[str]]:
    """Return an inventory in another tool's format, and notes on what is lost. Raises InputError."""
    from ..interop.inventories.export import export

    return export(inventory, form)


def import_task(text: str, source: str, form: str) -> tuple[str, Sequence[str]]:
    """Convert a task of another system; return a job file, and notes on what could not be converted.

    Raises DocumentError, InputError.
    """
    from ..interop import tasks

    return tasks.read(text, source, form)


@frozen
class BatchScript:
    """A batch script of Slurm, read: values of a job and options of its run, as in a job file, and notes
    on what is not carried over."""

    values: Mapping[str, Any]
    options: Mapping[str, Any]
    notes: Sequence[str]


def batch_script(words: Sequence[str], workdir: str | None = None) -> BatchScript | None:
    """Return what a script with ``#SBATCH`` lines and its arguments ask for; None if the first word is
    no such script, here or in the workdir. Raises InputError, DocumentError."""
    from ..jobs import job_file

    if (read := _converted(words, workdir)) is None:
        return None
    text, notes = read
    if _has_matrix(text):
        raise InputError(
            f"{words[0]} is an array, which is a sweep here", f"launcher sweep {shlex.join(words)}"
        )
    values = _with_arguments(job_file.load(text, words[0]), words)
    return BatchScript(values, _run_options(text, words[0]), notes)


@frozen
class BatchSweep:
    """A batch script that is an array: a sweep, options of its runs, and notes."""

    sweep: Sweep
    options: Mapping[str, Any]
    notes: Sequence[str]


def batch_sweep(words: Sequence[str]) -> BatchSweep | None:
    """Return the array that a script with ``#SBATCH`` lines is; None if the first word is no such
    script. Raises InputError, also if it is no array, and DocumentError."""
    from ..interop.tasks.slurm import IS_A_SWEEP
    from ..jobs import sweep_file

    if (read := _converted(words)) is None:
        return None
    text, notes = read
    if not _has_matrix(text):
        raise InputError(
            f"{words[0]} is no array, so there is one run",
            f"launcher run {shlex.join(words)}; or add a line: #SBATCH --array=0-9",
        )
    found = sweep_file.load(text, words[0])
    sweep = replace(found, values=_with_arguments(found.values, words))
    told = [note for note in notes if not note.endswith(IS_A_SWEEP)]
    return BatchSweep(sweep, _run_options(text, words[0]), told)


def _converted(
    words: Sequence[str], workdir: str | None = None
) -> tuple[str, tuple[str, ...]] | None:
    """Return a batch script as a job file, and notes; None if the first word is no such script."""
    path = Path(words[0])
    if workdir and not path.is_file():
        path = Path(workdir).expanduser() / path
    if not path.is_file() or path.suffix in (".py", ".yaml", ".yml"):
        return None
    with path.open("rb") as file:
        if file.read(2) != b"#!":
            return None
    from ..interop import tasks

    content = read_text(path, "batch script")
    if not tasks.is_batch_script(content):
        return None
    return tasks.read(content, words[0], "slurm")


def _has_matrix(text: str) -> bool:
    return "\nmatrix:" in text


def _with_arguments(values: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Return the values of a job whose script has arguments, and its own path for ``$0``.

    All of that is in its first line, so that the lines of bash's errors are the file's.
    """
    path = os.path.relpath(words[0])
    own = "" if path.startswith("..") else f"{_named(path)}; "
    given = f"set -- {shlex.join(words[1:])}; " if words[1:] else ""
    return {**values, "run": (f"{own}{given}{values['run'][0]}",)}


def _named(path: str) -> str:
    """Return the shell command that gives a script its path in the copy of the workdir, where it is
    there: ``sbatch $0`` and ``dirname $0`` need that. Bash before 5.0 keeps its own."""
    quoted = shlex.quote(path)
    name = f'BASH_ARGV0="$PWD"/{quoted} LAUNCHER_SLURM_SCRIPT="$PWD"/{quoted}'
    return f"if [ -f {quoted} ]; then {name}; export LAUNCHER_SLURM_SCRIPT; fi"


def _run_options(text: str, source: str) -> dict[str, Any]:
    from ..jobs.settings import in_a_job

    return {name: one.value for name, one in in_a_job(text, source).items()}


def export_scripts(
    job: Job, inventory: Inventory, hosts: Sequence[Host]
) -> tuple[Mapping[str, str], Sequence[str]]:
    """Return shell scripts that carry out the job's plan, by file name, and notes. Raises InputError."""
    from ..interop.scripts import scripts

    return scripts(job, inventory, with_python(hosts, job))


def export_sbatch(job: Job) -> tuple[str, Sequence[str]]:
    """Return a batch file for Slurm, and notes. Raises InputError for what its srun cannot start."""
    from ..interop.scripts import sbatch

    return sbatch(job)
