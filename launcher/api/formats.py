"""Import and export files of other tools: inventories, tasks and scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..jobs.environments import with_python
from ..spec.errors import DocumentError, InputError
from ..spec.files import read_text
from ..spec.model import Host, Inventory, Job

#: Formats of task files, and of inventories that are written.
TASKS = ("skypilot", "dstack", "polyaxon", "osmo")
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
            raise InputError(f"{source} already is a launcher inventory") from None
        raise
    inventory = found.inventory()
    head = [f"From {source} ({inventories.FORMATS[name].about}), by: launcher inventory import"]
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
