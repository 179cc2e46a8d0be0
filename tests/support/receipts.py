"""Receipts, for tests that read or show them."""

from __future__ import annotations

from typing import Any

from launcher.records.receipt import Receipt


def failed_receipt(**parts: Any) -> Receipt:
    """Return the receipt of a run that a rank ended with exit code 1."""
    given: dict[str, Any] = {
        "run": "r",
        "status": "failed",
        "reason": "exit-1",
        "exit_code": 1,
        "started": 0.0,
        "seconds": 1.0,
        "stages": {},
        "world_size": 3,
        "framework": "torch",
    }
    return Receipt(**given | parts)
