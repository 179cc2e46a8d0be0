"""Print the notes of a release from CHANGELOG.md: ``python docs/release_notes.py 0.2.0``.

Without a version, of what is not released yet.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).parent.parent / "CHANGELOG.md"
_HEADING = re.compile(r"^## \[(?P<version>[^\]]+)\].*\n", re.MULTILINE)


def notes(changelog: str, version: str) -> str:
    """Return what the changelog says of a version. Raises KeyError."""
    parts = _HEADING.split(changelog)
    found = dict(zip(parts[1::2], parts[2::2], strict=True))
    return _unwrapped(found[version].strip()) + "\n"


def _unwrapped(text: str) -> str:
    """Return text with one line for each paragraph and item: pages of releases keep line breaks."""
    return re.sub(r"(?<=\S)\n(?: +)?(?=[^\s#-])", " ", text)


def main(version: str = "Unreleased") -> int:
    """Print the notes; return the exit code."""
    try:
        sys.stdout.write(notes(CHANGELOG.read_text("utf-8"), version))
    except KeyError:
        sys.stderr.write(f"{CHANGELOG} has no version {version}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
