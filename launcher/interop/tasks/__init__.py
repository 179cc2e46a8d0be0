"""Other people's task files: what they mean as a job file of ours.

To add a format: a file like those here with ``read``, and a row in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable

from ...spec.errors import InputError, suggestion
from ..source import Text, check_tags
from . import dstack, osmo, polyaxon, skypilot
from .draft import JobDraft

#: What a format is called, and who reads it.
FORMATS: dict[str, tuple[str, Callable[[Text, JobDraft], None]]] = {
    "skypilot": ("SkyPilot task", skypilot.read),
    "dstack": ("dstack task", dstack.read),
    "polyaxon": ("Polyaxon experiment", polyaxon.read),
    "osmo": ("OSMO workflow", osmo.read),
}


def read(content: str, source: str, name: str) -> tuple[str, tuple[str, ...]]:
    """The job file that a task means, and what could not be carried over.

    Raises DocumentError, and InputError on an unknown name.
    """
    if name not in FORMATS:
        known = suggestion(name, tuple(FORMATS)) or f"known: {', '.join(FORMATS)}"
        raise InputError(f'unknown format "{name}"', known)
    text = Text(content, source)
    if name == "skypilot":
        text = skypilot.only(text)
    check_tags(text.yaml())
    draft = JobDraft(source)
    about, reader = FORMATS[name]
    reader(text, draft)
    return draft.text(about), draft.notes


__all__ = ["FORMATS", "JobDraft", "read"]
