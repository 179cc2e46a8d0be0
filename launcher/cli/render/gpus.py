"""Format the GPUs of hosts: models, which are free, and who uses the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ...api.hosts import FREE, HELD, LEFT, GpuState, gpu_states
from ...spec import nodeset
from ...spec.errors import HostError
from ...spec.gpus import fold
from ...spec.model import Facts
from .tables import age, counted, table


def gpus_text(
    known: Mapping[str, Facts], now: float, off: Mapping[str, str], width: int | None = None
) -> str:
    """Return a row for each host, equal ones as one, and how many GPUs are free. ``off`` are hosts that
    nothing may use, with the reasons."""
    rows: dict[tuple[str, ...], list[str]] = {}
    total = free = 0
    for host, facts in known.items():
        found = gpu_states(facts)
        idle = sum(one.state == FREE for one in found)
        total, free = total + len(found), free + idle
        used = ["; ".join(_used_by(found, now - facts.clock_offset))]
        row = (_models(found), str(idle) if found else "-", *used)
        rows.setdefault(row, []).append(host)
    for host, why in off.items():
        rows.setdefault(("-", "-", f"off: {why}"), []).append(host)
    lines = [(nodeset.fold(hosts), *row) for row, hosts in rows.items()]
    return (
        table(("hosts", "gpus", "free", "used by"), lines, width=width)
        + f"\n{counted(total, 'GPU')}, {free} free"
    )


def _models(found: tuple[GpuState, ...]) -> str:
    kinds: dict[str, int] = {}
    for one in found:
        name = one.name.removeprefix("NVIDIA ")
        size = f" {round(one.memory / 1024)} GB" if one.memory and "GB" not in name else ""
        kinds[name + size] = kinds.get(name + size, 0) + 1
    return " + ".join(f"{count}x {kind}" for kind, count in kinds.items()) or "-"


def _used_by(found: tuple[GpuState, ...], now: float) -> list[str]:
    """Return ``0-1 ann calm-otter-1234 (2 min)`` and ``2 bob python 40 GB (not launcher, 3 h)``."""
    users: dict[tuple[str, ...], list[GpuState]] = {}
    for one in found:
        if one.state != FREE:
            users.setdefault((one.state, one.user, one.run, one.command), []).append(one)
    parts = []
    for (state, user, run, command), several in users.items():
        since = min((one.since for one in several if one.since), default=None)
        time = age(max(0.0, now - since)) if since else ""
        held = fold(one.index for one in several)
        if state == LEFT:
            memory = sum(one.used for one in several) / 1024
            parts.append(f"{held} {memory:.0f} GB held by no process")
        elif state == HELD and run:
            note = f" ({time})" if time else ""
            parts.append(f"{held} {user} {run}{note}")
        else:
            memory = sum(one.used for one in several) / 1024
            what = " ".join(filter(None, (command, f"{memory:.0f} GB" if memory >= 1 else "")))
            note = ", ".join(filter(None, ("not launcher", time)))
            parts.append(" ".join(filter(None, (held, user, what, f"({note})"))))
    return parts


def gpus_json(
    answers: Mapping[str, Facts | HostError], off: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the GPUs of each host for programs, or why it did not answer; times are by its clock."""
    found: list[dict[str, Any]] = [
        {"host": host, "gpus": [], "off": None, "error": str(one)}
        if isinstance(one, HostError)
        else {"host": host, "gpus": [asdict(state) for state in gpu_states(one)], "off": None}
        for host, one in answers.items()
    ]
    return found + [{"host": host, "gpus": [], "off": why} for host, why in off.items()]
