"""Paths of this machine among a job's arguments: hosts have none of them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ...spec.frozen import frozen
from ...spec.model import Job

#: Folders that every machine has of its own.
_EVERYWHERE = ("/bin", "/dev", "/etc", "/lib", "/opt", "/proc", "/run", "/sbin", "/sys", "/usr")


@frozen
class LocalPath:
    """An argument, as it was written, that is a path of this machine. ``inside`` is what it is called
    on the hosts if it is in the workdir, and so copied."""

    argument: str
    path: str
    inside: str | None = None


def found(job: Job) -> tuple[LocalPath, ...]:
    """Return the absolute paths among the job's arguments that exist here, each once."""
    if job.shell:
        return ()
    paths = {}
    for before, word in zip(("", *job.run), job.run, strict=False):
        value = word.partition("=")[2] if word.startswith("-") else word
        if not value.startswith("/") or value in job.needs or not os.path.exists(value):
            continue
        if any(value == place or value.startswith(place + "/") for place in _EVERYWHERE):
            continue
        option = (
            f"{before} " if before.startswith("-") and "=" not in before and word == value else ""
        )
        paths[value] = LocalPath(option + word, value, _inside(job, value))
    return tuple(paths.values())


def _inside(job: Job, path: str) -> str | None:
    folder = os.path.realpath(job.workdir)
    real = os.path.realpath(path)
    return os.path.relpath(real, folder) if real.startswith(folder + "/") else None


def with_relative_script(job: Job) -> Job:
    """Return the job; a script that was named by its whole path in the workdir has its path there."""
    first = job.run[0] if job.run and not job.shell else ""
    is_script = first.startswith("/") and first.endswith(".py") and Path(first).is_file()
    inside = _inside(job, first) if is_script else None
    return job if inside is None else replace(job, run=(inside, *job.run[1:]))
