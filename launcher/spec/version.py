"""The version of launcher, and what it is called where it is installed from."""

import sys

__version__ = "0.2.0"
#: The distribution. On the package index, `launcher` is a program of somebody else's.
DISTRIBUTION = "launcher-ssh"


def installs(extra: str) -> str:
    """Return the command that adds an extra to where this launcher is installed."""
    return f"{sys.executable} -m pip install '{DISTRIBUTION}[{extra}]'"
