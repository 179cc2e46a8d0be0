"""What differs between runs, for the page that compares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..api.client import Client
from ..api.jobs import arguments_of
from ..records.comparison import Difference
from ..records.run_reader import RunReader
from ..spec.errors import LauncherError
from . import confined
from .answers import Runs

#: Runs that one page compares.
MOST = 12
_ENV = "env "


def compared(runs: Runs, names: list[str]) -> dict[str, Any]:
    """Return the runs with their arguments, and what differs of each from the first one.

    Raises OSError, LauncherError.
    """
    for name in names:
        with confined.folder(runs.root, (name,)):
            pass
    client = Client()
    first, *others = names
    return {
        "runs": [{**runs.line(name), "arguments": _arguments(runs.root / name)} for name in names],
        "differences": [
            {"run": name, "differences": [_shown(one) for one in client.diff(first, name)]}
            for name in others
        ],
    }


def _shown(one: Difference) -> dict[str, str]:
    """Return a difference; of variables of the environment, which may be secrets, without values."""
    before, after = one.before, one.after
    if one.what.startswith(_ENV):
        before, after = (before and "set"), (after and ("another value" if before else "set"))
    return {"what": one.what, "before": before, "after": after}


def _arguments(path: Path) -> list[str]:
    try:
        return list(arguments_of(RunReader(path).request.job))
    except LauncherError:  # it ended before anything was decided
        return []
