"""Translate foreign task files into job files of ours.

To add a format, write a module with ``read``, and add a row to ``FORMATS``. A package of its own has a
:class:`Format` as an entry point of the group ``launcher.tasks``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...spec.errors import InputError, suggestion
from ...spec.frozen import frozen
from ...spec.plugins import Plugins, Unusable
from ..source import Text, check_tags
from . import dstack, osmo, polyaxon, skypilot, slurm
from .draft import JobDraft


@frozen
class Format:
    """A format of tasks: its name for people, what fills a draft from a text, and whether it is YAML."""

    about: str
    read: Callable[[Text, JobDraft], None]
    is_yaml: bool = True


FORMATS = {
    "skypilot": Format("SkyPilot task", skypilot.read),
    "dstack": Format("dstack task", dstack.read),
    "polyaxon": Format("Polyaxon experiment", polyaxon.read),
    "osmo": Format("OSMO workflow", osmo.read),
    "slurm": Format("Slurm batch script", slurm.read, is_yaml=False),
}


def _of_plugin(name: str, made: Any) -> Format:
    if not isinstance(made, Format):
        raise Unusable("is not a TaskFormat of launcher.api.plugins")
    return made


PLUGINS = Plugins("launcher.tasks", "task format", _of_plugin, FORMATS)


def read(content: str, source: str, name: str) -> tuple[str, tuple[str, ...]]:
    """Return a task as a job file of ours, and notes on what could not be carried over.

    Raises DocumentError, and InputError for an unknown format ``name``.
    """
    if (form := FORMATS.get(name) or PLUGINS.get(name)) is None:
        names = (*FORMATS, *PLUGINS.names())
        known = suggestion(name, names) or f"known: {', '.join(names)}"
        raise InputError(f'unknown format "{name}"', known)
    text = Text(content, source)
    if name == "skypilot":
        text = skypilot.only(text)
    if form.is_yaml:
        check_tags(text.yaml())
    draft = JobDraft(source)
    with PLUGINS.blaming(name):
        form.read(text, draft)
        return draft.text(form.about), draft.notes


def is_batch_script(content: str) -> bool:
    """Return whether a file is a script for ``sbatch``."""
    return slurm.is_batch_script(content)


__all__ = ["FORMATS", "PLUGINS", "Format", "JobDraft", "Text", "is_batch_script", "read"]
