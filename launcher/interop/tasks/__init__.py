"""Translate foreign task files into job files of ours.

To add a format, write a module with ``read``, and add a row to ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable

from ...spec.errors import InputError, suggestion
from ..source import Text, check_tags
from . import dstack, osmo, polyaxon, skypilot, slurm
from .draft import JobDraft

#: By format: its name for people, and its reader.
FORMATS: dict[str, tuple[str, Callable[[Text, JobDraft], None]]] = {
    "skypilot": ("SkyPilot task", skypilot.read),
    "dstack": ("dstack task", dstack.read),
    "polyaxon": ("Polyaxon experiment", polyaxon.read),
    "osmo": ("OSMO workflow", osmo.read),
    "slurm": ("Slurm batch script", slurm.read),
}


def read(content: str, source: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Return a task as a job file of ours, and notes on what could not be carried over.

    Raises DocumentError, and InputError for an unknown format ``name``.
    """
    if name not in FORMATS:
        known = suggestion(name, tuple(FORMATS)) or f"known: {', '.join(FORMATS)}"
        raise InputError(f'unknown format "{name}"', known)
    text = Text(content, source)
    if name == "skypilot":
        text = skypilot.only(text)
    if name != "slurm":
        check_tags(text.yaml())
    draft = JobDraft(source)
    about, reader = FORMATS[name]
    reader(text, draft)
    return draft.text(about), draft.notes


def is_batch_script(content: str) -> bool:
    """Return whether a file is a script for ``sbatch``."""
    return slurm.is_batch_script(content)


__all__ = ["FORMATS", "JobDraft", "is_batch_script", "read"]
