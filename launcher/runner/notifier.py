"""Sends news by apprise or a plug-in, in a process of its own: ``python -m launcher.runner.notifier``.

The news is in the environment, as for a command, and so is where it goes. A line on stderr says what
went wrong.
"""

from __future__ import annotations

import os
import sys
from dataclasses import fields

from ..spec.errors import InputError
from .notify import WHERE, News, send_apart


def main() -> int:
    """Send the news; return the exit code."""
    names = [field.name for field in fields(News)]
    news = News(**{name: os.environ.get(f"LAUNCHER_{name.upper()}", "") for name in names})
    try:
        send_apart(os.environ[WHERE], news)
    except InputError as error:
        return _failed(error.message)
    except Exception as error:
        return _failed(f"{type(error).__name__}: {error}")
    return 0


def _failed(why: str) -> int:
    sys.stderr.write(" ".join(why.split()) + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
