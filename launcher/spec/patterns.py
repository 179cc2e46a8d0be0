"""Regular expressions that are compiled when they are first used: those for failures, mostly never."""

from __future__ import annotations

import re
from typing import Any, cast


def pattern(text: str, flags: int = 0) -> re.Pattern[str]:
    """Return what `re.compile` returns, to whoever uses it: it takes 0.1 to 1 ms, at every start."""
    return cast(re.Pattern[str], _Later(text, flags))


class _Later:
    def __init__(self, text: str, flags: int) -> None:
        self._asked = text, flags

    def __getattr__(self, name: str) -> Any:
        value = getattr(re.compile(*self._asked), name)
        setattr(self, name, value)
        return value
