"""Where launcher keeps its own files on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return launcher's folder on this machine: ``$LAUNCHER_HOME`` or ``~/.launcher``."""
    return Path(os.environ.get("LAUNCHER_HOME") or Path.home() / ".launcher")


def make_home() -> Path:
    """Return :func:`home`, made for this user alone where it is missing. Raises OSError."""
    place = home()
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    return place


def is_at_home(file: object) -> bool:
    """Return whether a path is in :func:`home`, or is it."""
    return Path(os.path.abspath(str(file))).is_relative_to(os.path.abspath(home()))
