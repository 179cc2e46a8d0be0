"""Bytes in words."""

from __future__ import annotations


def size(count: int) -> str:
    """Return ``1.2 MB`` for 1234567 bytes."""
    amount = float(min(count, 10**30))  # a damaged record may hold any number
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"
