"""What hosts record of what they store with no launcher in touch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import lab as labs


def has(host: labs.LabHost, folder: Path, event: str) -> list[dict[str, Any]]:
    """Return the events of a kind that a host has recorded."""
    path = f"/root/.launcher/host/runs/{folder.name}/journal.jsonl"
    text = host.read(path).decode() if host.exists(path) else ""
    found = [json.loads(line) for line in text.splitlines()]
    return [one for one in found if one["event"] == event]


def stored_alone(host: labs.LabHost, folder: Path) -> tuple[int, int, str]:
    """Wait until a host has stored what it can, and return what it recorded of that."""
    labs.wait_until(lambda: bool(has(host, folder, "StoredAlone")), f"{host.name} to store", 60)
    (one,) = has(host, folder, "StoredAlone")
    return one["files"], one["missing"], one["problem"]
