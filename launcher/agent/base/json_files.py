"""Files with a value that may be forgotten: one that is cut is none, and a full disk keeps none."""

from __future__ import annotations

import os

from . import lean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def read(path: str) -> dict[str, Any]:
    """Return what a file holds; {} where there is none, or a power cut has left half of it."""
    try:
        with open(path) as file:
            found: Any = lean.loads(file.read())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write(path: str, value: Mapping[str, Any]) -> None:
    """Write a file, and its folder; it appears whole, or stays as it was. Others may write it, too."""
    new = "%s.%d.new" % (path, os.getpid())
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(new, "w") as file:
            file.write(lean.dumps(value))
        os.replace(new, path)
    except OSError:
        try:
            os.unlink(new)
        except OSError:
            pass
