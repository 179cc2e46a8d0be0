"""Reservations: runs without ranks, which hold GPUs for work by hand until their time is over."""

from __future__ import annotations

import math
import os

from ..jobs import job_file
from ..jobs.durations import moment
from ..runner.policy import projects
from ..spec.errors import InputError
from ..spec.gpu_models import read_count
from ..spec.home import make_home
from ..spec.model import Inventory, Job, Resources

__all__ = ["NAME", "job_of", "moment", "require_quota"]

#: How the names of reservations begin, so that everybody who sees one knows what it is.
NAME = "reserved"
#: The longest that one lasts, in seconds: whoever forgets it blocks idle GPUs.
LONGEST = 14 * 86400.0
#: Seconds after its end in which hosts end it themselves, should its process not have ended.
SLACK = 10.0


def job_of(gpus: int | str, seconds: float, hosts: str | None, name: str) -> Job:
    """Return a job that does nothing for so long with so many GPUs. Raises InputError."""
    if not seconds > 0:  # also nan
        raise InputError("a reservation lasts longer than 0 seconds", "such as 30m, 4h or 2d")
    if seconds > LONGEST:
        raise InputError(
            f"a reservation lasts {LONGEST / 86400:.0f} days at most",
            "a longer one would block GPUs if it were forgotten; reserve again when it ends",
        )
    try:
        model, count = read_count(str(gpus))
    except ValueError as error:
        raise InputError(f"gpus: {error}") from None
    if not count:
        raise InputError("a reservation holds at least one GPU", "such as 4, or A100:4")
    nothing = make_home() / NAME  # a run copies a folder of code: this one is empty
    nothing.mkdir(exist_ok=True)
    values = {
        "run": (f"exec sleep {math.ceil(seconds)}  # holds GPUs for work by hand",),
        "framework": "env",
        "name": "-".join(filter(None, (NAME, name))),
        "workdir": str(nothing),
        "resources": Resources(gpus=count, gpu_model=model),
        **({"hosts": hosts} if hosts else {}),
    }
    return job_file.make({"argument": values}, os.environ)


def require_quota(job: Job, inventory: Inventory, project: str | None) -> None:
    """Raise InputError for a reservation that is larger than the quota of its project: beyond it, a
    run gives GPUs back when others need them, which a person at work cannot."""
    if project is None:
        return
    rule = projects.rule_of(inventory, project, projects.WITHOUT)
    gpus = job.resources.gpus or 0
    if gpus > rule.quota:
        raise InputError(
            f"{gpus} GPUs are more than the quota of project {project}, which is {rule.quota}",
            f"a reservation does not borrow: reserve {rule.quota} at most, or --project none",
        )
