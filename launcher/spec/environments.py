"""How a Python on a host is named: a path, ``venv:DIR`` or ``conda:NAME``."""

from __future__ import annotations

import re

#: What stands before the folder of a virtual environment, and the name of a conda environment.
VENV, CONDA = "venv:", "conda:"
_NAME = re.compile(r"[\w.+-]{1,100}\Z", re.ASCII)


def python_path(text: str) -> str:
    """Return a Python as the rest of launcher knows it: a name on PATH, a path, or ``conda:NAME``.

    Raises ValueError.
    """
    kind, colon, place = text.partition(":")
    if kind + colon == VENV and place:
        return f"{place.rstrip('/')}/bin/python"
    if kind + colon == CONDA and place:
        if "/" in place:  # an environment by its folder, as conda -p
            return f"{place.rstrip('/')}/bin/python"
        if _NAME.match(place):
            return text
    if colon or not text.strip():
        raise ValueError(f"not a Python: {text!r} (a path, a name on PATH, venv:DIR or conda:NAME)")
    return text


def conda_name(python: str) -> str | None:
    """Return the name of the conda environment that a Python is named by, or None."""
    return python.removeprefix(CONDA) if python.startswith(CONDA) else None
