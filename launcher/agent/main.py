"""The commands of the agent: ``relay ROOT`` and ``rank [--tokens] -- COMMAND``."""

import sys


def main():
    """Runs the part that the first argument names; imports that one only."""
    part, rest = sys.argv[1], sys.argv[2:]
    if part == "relay":
        from .relay import main as run
    elif part == "rank":
        from .rank import main as run
    else:
        sys.exit("usage: start.py relay ROOT | rank [--tokens] -- COMMAND")
    run(rest)
