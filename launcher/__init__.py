"""Takes a training script to a handful of GPU machines that have nothing but SSH.

The public surface is what ``__all__`` names::

    inventory = launcher.load_inventory("inventory/lab.yaml")
    job = launcher.make_job(run=("train.py", "--epochs", "3"), num_nodes=2)
    receipt = launcher.run_job(job, inventory)
    assert receipt.status == "succeeded"
"""

__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import dry_run, load_inventory, load_job, make_job, run_job
    from .errors import LauncherError
    from .model import Host, Inventory, Job, Plan, Resources, Secret
    from .receipt import Receipt

__all__ = [
    "Host",
    "Inventory",
    "Job",
    "LauncherError",
    "Plan",
    "Receipt",
    "Resources",
    "Secret",
    "dry_run",
    "load_inventory",
    "load_job",
    "make_job",
    "run_job",
]

_HOME = {
    "api": ("dry_run", "load_inventory", "load_job", "make_job", "run_job"),
    "errors": ("LauncherError",),
    "model": ("Host", "Inventory", "Job", "Plan", "Resources", "Secret"),
    "receipt": ("Receipt",),
}


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used: `launcher --help` needs none of them."""
    for module, names in _HOME.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
