"""The RUN of a command line: a name, the beginning of one, or ``-`` for the latest."""

from __future__ import annotations

from typing import Any

import click


def _complete(ctx: click.Context, parameter: click.Parameter, beginning: str) -> list[str]:
    from .. import runs

    return [name for name in reversed(runs.names()) if name.startswith(beginning)]


def run_argument(command: Any) -> Any:
    """Adds the argument to a command, as ``word``; shells complete it."""
    return click.argument("word", metavar="RUN", shell_complete=_complete)(command)
