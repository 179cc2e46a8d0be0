"""The files of the workdir that have the log of a batch script: ``#SBATCH --output``. Pure.

Source: "filename pattern" and SBATCH_OUTPUT in sbatch(1).
"""

from __future__ import annotations

import re

from ..frameworks.slurm import ELEMENT, number
from ..spec.model import Job

#: The log of an array's number, which all its elements have in common.
ARRAY = "SLURM_ARRAY_JOB_ID"
_PLACE = re.compile(r"%([0-9]{0,2})([%AJNajnstux])")


def is_inside(path: str) -> bool:
    """Return whether a path is one in the workdir. Others are those of a cluster's shared disk."""
    parts = path.split("/")
    return not path.startswith(("/", "~")) and ".." not in parts and parts[-1] not in ("", ".")


def files(job: Job, run: str, host: str, user: str) -> dict[str, tuple[str, ...]]:
    """Return which streams, of "out" and "err", each file has; ``host`` is the one of the script."""
    found: dict[str, tuple[str, ...]] = {}
    for stream, pattern in zip(("out", "err"), job.script_logs, strict=True):
        path = _named(pattern, job, run, host, user)
        if is_inside(path):
            found[path] = (*found.get(path, ()), stream)
    return found


def _named(pattern: str, job: Job, run: str, host: str, user: str) -> str:
    own = number(run)
    values = {
        "%": "%", "A": job.envs.get(ARRAY, own), "j": own, "J": own, "a": job.envs.get(ELEMENT, "0"),
        "s": "batch", "t": "0", "n": "0", "N": host, "u": user, "x": job.name or "launcher",
    }  # fmt: skip

    def value(found: re.Match[str]) -> str:
        text = values[found[2]]
        return text.zfill(int(found[1] or 0)) if text.isdigit() else text

    return _PLACE.sub(value, pattern)
