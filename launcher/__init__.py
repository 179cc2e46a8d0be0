"""Takes a training script to a handful of GPU machines that have nothing but SSH.

The public surface is what ``__all__`` names::

    inventory = launcher.load_inventory("inventory/lab.yaml")
    job = launcher.make_job(run=("train.py", "--epochs", "3"), num_nodes=2)
    receipt = launcher.run(job, inventory)
    assert receipt.status == "succeeded"
"""

__version__ = "0.1.0"

from .api import dry_run, load_inventory, load_job, make_job, run
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
    "run",
]
