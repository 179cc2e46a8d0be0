"""Takes a training script to a handful of GPU machines that have nothing but SSH.

The public surface is what ``__all__`` names::

    inventory = launcher.load_inventory("inventory/lab.yaml")
    job = launcher.make_job(run=("train.py", "--epochs", "3"), num_nodes=2)
    receipt = launcher.run_job(job, inventory)
    assert receipt.status == "succeeded"

:class:`Client` starts runs in the background and finds those that were started before; a
:class:`RunHandle` waits, stops, reads logs, brings outputs back. :mod:`launcher.api` explains both.
"""

from .spec.version import __version__

TYPE_CHECKING = False  # `import typing` would take ten times as long as all of this
if TYPE_CHECKING:
    from typing import Any

    from .api.arguments import FunctionJob, RerunOptions, RunArguments, RunOptions
    from .api.client import AsyncClient, Client
    from .api.functions import Ranks, processes, results
    from .api.functions.executor import Executor, RunFuture
    from .api.handles import AsyncRunHandle, Pulled, RunHandle
    from .api.inventory_lookup import need_inventory
    from .api.jobs import can_wait, dry_run, load_job, load_options, make_job, parse_options
    from .api.runs import run_job
    from .fleet.inventory_file import load_inventory
    from .records import events
    from .records.catalog import Summary, Wanted
    from .records.log_lines import LogLine
    from .records.metrics import GpuSample, GpuUse, HostUse, Sample
    from .records.receipt import Receipt
    from .records.run_reader import LogPiece, RunReader
    from .records.state import RunState
    from .runner.remote_commands import ExecResult
    from .spec.errors import (
        AuthenticationFailed,
        CheckFailed,
        ConnectError,
        ConnectionLost,
        DocumentError,
        FunctionFailed,
        GpusInUse,
        HostError,
        HostKeyMismatch,
        InputError,
        LauncherDied,
        LauncherError,
        NewerRecord,
        PlanError,
        RecordError,
        RunKept,
        StoreError,
        UnknownHostKey,
        UnknownRun,
        Unreachable,
        UnreadableRecord,
    )
    from .spec.model import Host, Inventory, Job, Plan, Resources, Secret

__all__ = [
    "AsyncClient",
    "AsyncRunHandle",
    "AuthenticationFailed",
    "CheckFailed",
    "Client",
    "ConnectError",
    "ConnectionLost",
    "DocumentError",
    "ExecResult",
    "Executor",
    "FunctionFailed",
    "FunctionJob",
    "GpuSample",
    "GpuUse",
    "GpusInUse",
    "Host",
    "HostError",
    "HostKeyMismatch",
    "HostUse",
    "InputError",
    "Inventory",
    "Job",
    "LauncherDied",
    "LauncherError",
    "LogLine",
    "LogPiece",
    "NewerRecord",
    "Plan",
    "PlanError",
    "Pulled",
    "Ranks",
    "Receipt",
    "RecordError",
    "RerunOptions",
    "Resources",
    "RunArguments",
    "RunFuture",
    "RunHandle",
    "RunKept",
    "RunOptions",
    "RunReader",
    "RunState",
    "Sample",
    "Secret",
    "StoreError",
    "Summary",
    "UnknownHostKey",
    "UnknownRun",
    "Unreachable",
    "UnreadableRecord",
    "Wanted",
    "__version__",
    "can_wait",
    "dry_run",
    "events",
    "load_inventory",
    "load_job",
    "load_options",
    "make_job",
    "need_inventory",
    "parse_options",
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
    "api.inventory_lookup": ("need_inventory",),
    "api.jobs": ("can_wait", "dry_run", "load_job", "load_options", "make_job", "parse_options"),
    "api.runs": ("run_job",),
    "fleet.inventory_file": ("load_inventory",),
    "records.catalog": ("Summary", "Wanted"),
    "records.log_lines": ("LogLine",),
    "records.metrics": ("GpuSample", "GpuUse", "HostUse", "Sample"),
    "records.receipt": ("Receipt",),
    "records.run_reader": ("LogPiece", "RunReader"),
    "records.state": ("RunState",),
    "runner.remote_commands": ("ExecResult",),
    "spec.errors": (
        "AuthenticationFailed",
        "CheckFailed",
        "ConnectError",
        "ConnectionLost",
        "DocumentError",
        "FunctionFailed",
        "GpusInUse",
        "HostError",
        "HostKeyMismatch",
        "InputError",
        "LauncherDied",
        "LauncherError",
        "NewerRecord",
        "PlanError",
        "RecordError",
        "RunKept",
        "StoreError",
        "UnknownHostKey",
        "UnknownRun",
        "Unreachable",
        "UnreadableRecord",
    ),
    "spec.model": ("Host", "Inventory", "Job", "Plan", "Resources", "Secret"),
}


def __getattr__(name: str) -> "Any":
    """Import a public name when it is first used: `launcher --help` needs none of them."""
    from importlib import import_module

    if name == "events":
        return import_module(".records.events", __name__)
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
