"""Takes a training script to a handful of GPU machines that have nothing but SSH.

The public surface is what ``__all__`` names::

    inventory = launcher.load_inventory("inventory/lab.yaml")
    job = launcher.make_job(run=("train.py", "--epochs", "3"), num_nodes=2)
    receipt = launcher.run_job(job, inventory)
    assert receipt.status == "succeeded"

:class:`Client` starts runs in the background and finds those that were started before; a
:class:`RunHandle` waits, stops, reads logs, brings outputs back. :mod:`launcher.api` explains both.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .spec.version import __version__

if TYPE_CHECKING:
    from .api.arguments import FunctionJob, RerunOptions, RunArguments, RunOptions
    from .api.client import AsyncClient, Client
    from .api.functions import Ranks, processes, results
    from .api.functions.executor import Executor, RunFuture
    from .api.handles import AsyncRunHandle, Pulled, RunHandle
    from .api.jobs import dry_run, load_job, load_options, make_job
    from .api.runs import run_job
    from .fleet.inventory_file import load_inventory
    from .records.catalog import Summary, Wanted
    from .records.metrics import GpuSample, GpuUse, HostUse, Sample
    from .records.receipt import Receipt
    from .records.run_reader import LogPiece, RunReader
    from .records.state import RunState
    from .runner.remote_commands import ExecResult
    from .spec.errors import FunctionFailed, InputError, LauncherError
    from .spec.model import Host, Inventory, Job, Plan, Resources, Secret

__all__ = [
    "AsyncClient",
    "AsyncRunHandle",
    "Client",
    "ExecResult",
    "Executor",
    "FunctionFailed",
    "FunctionJob",
    "GpuSample",
    "GpuUse",
    "Host",
    "HostUse",
    "InputError",
    "Inventory",
    "Job",
    "LauncherError",
    "LogPiece",
    "Plan",
    "Pulled",
    "Ranks",
    "Receipt",
    "RerunOptions",
    "Resources",
    "RunArguments",
    "RunFuture",
    "RunHandle",
    "RunOptions",
    "RunReader",
    "RunState",
    "Sample",
    "Secret",
    "Summary",
    "Wanted",
    "__version__",
    "dry_run",
    "load_inventory",
    "load_job",
    "load_options",
    "make_job",
    "processes",
    "results",
    "run_job",
]

_HOME = {
    "api.arguments": ("FunctionJob", "RerunOptions", "RunArguments", "RunOptions"),
    "api.client": ("AsyncClient", "Client"),
    "api.functions": ("Ranks", "processes", "results"),
    "api.functions.executor": ("Executor", "RunFuture"),
    "api.handles": ("AsyncRunHandle", "Pulled", "RunHandle"),
    "api.jobs": ("dry_run", "load_job", "load_options", "make_job"),
    "api.runs": ("run_job",),
    "fleet.inventory_file": ("load_inventory",),
    "records.catalog": ("Summary", "Wanted"),
    "records.metrics": ("GpuSample", "GpuUse", "HostUse", "Sample"),
    "records.receipt": ("Receipt",),
    "records.run_reader": ("LogPiece", "RunReader"),
    "records.state": ("RunState",),
    "runner.remote_commands": ("ExecResult",),
    "spec.errors": ("FunctionFailed", "InputError", "LauncherError"),
    "spec.model": ("Host", "Inventory", "Job", "Plan", "Resources", "Secret"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `launcher --help` needs none of them."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
