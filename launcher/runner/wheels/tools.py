"""What this machine needs to fetch wheels for hosts."""

from __future__ import annotations

import re

from ...fleet import builders
from ...spec.errors import InputError
from ...spec.version import installs

#: Also in pyproject.toml.
PACKAGING = (26, 1)
EXTRA = installs("wheels")


def require_tools() -> None:
    """Raise InputError if this machine lacks what fetches wheels. Each run asks, and most fetch nothing:
    so nothing is imported that takes long."""
    if not builders.own("uv"):
        raise InputError("wheels: fetch needs uv on this machine", EXTRA)
    try:
        import packaging
    except ImportError:
        there = ""
    else:
        version = str(packaging.__version__)
        if tuple(map(int, re.findall(r"\d+", version)[:2])) >= PACKAGING:
            return
        there = f", and it has {version}"
    needed = "packaging>=" + ".".join(map(str, PACKAGING))
    raise InputError(f"wheels: fetch needs {needed} on this machine{there}", EXTRA)
