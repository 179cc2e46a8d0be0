"""What a user has allowed once: digests in a file at home, one a line."""

from __future__ import annotations

import hashlib

from ..records.record_files import write_at_home
from ..spec.home import home


def digest(*parts: str) -> str:
    """Return a digest of texts in their order."""
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def is_noted(file: str, one: str) -> bool:
    """Return whether a digest is in a file of :func:`home`."""
    return one in _noted(file)


def note(file: str, one: str) -> None:
    """Add a digest to a file of :func:`home`. Raises OSError."""
    write_at_home(file, "".join(f"{known}\n" for known in (*_noted(file), one)))


def _noted(file: str) -> list[str]:
    try:
        return (home() / file).read_text().split()
    except OSError:
        return []
