"""What may be the name of a run: it is the name of its folder, here and on hosts."""

from __future__ import annotations

import re

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")


def is_run_name(text: str) -> bool:
    """Return whether a text can be the name of a run."""
    return _NAME.match(text) is not None
