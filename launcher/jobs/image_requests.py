"""What a host is asked about the image of a job: by a run, and by a check before it."""

from __future__ import annotations

from typing import Any

from ..spec.containers import AUTO
from ..spec.environments import Environment
from ..spec.model import Facts, Job
from .environments import uses_gpus


def image_request(
    job: Job, wanted: Environment, facts: Facts, data_folder: str | None
) -> dict[str, Any]:
    """Return what the host with these facts is asked about an image of a job; its users share data sets
    in ``data_folder``."""
    vendors = [gpu.vendor for gpu in facts.gpus]
    return {
        "image": wanted.image,
        "runtime": wanted.runtime or AUTO,
        "mounts": list(wanted.mounts),
        "places": [
            *(one.to for one in job.data if one.to.startswith("/")),
            *([data_folder] if data_folder and job.data else []),
        ],
        "gpus": vendors[0] if vendors and uses_gpus(job, wanted) else "",
    }
