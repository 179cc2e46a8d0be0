"""Whether a round went well: ask the hosts themselves, and compare with what is here."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import Any

from chaos.round import Round
from support import lab as labs

#: Seconds by which the time of an event may be off: half a round trip, and a busy machine.
SKEW = 2.0


def judge(now: Round, allowed: frozenset[str]) -> tuple[str, tuple[str, ...]]:
    """Return how the runs ended, and everything that is wrong."""
    statuses: list[str] = []
    wrong = [*now.wrong]
    for host in now.lab.hosts.values():
        wrong += _left(host) + _gpu_locks(host)
    for folder in now.folders:
        if not (folder / "receipt.json").exists():
            statuses.append("not begun")
            wrong += _not_begun(now, folder, allowed)
            continue
        receipt = json.loads((folder / "receipt.json").read_text())
        if receipt["framework"] != "torch":  # a user's next run
            continue
        statuses.append(receipt["status"])
        expected = frozenset({"stopped"}) if folder.name in now.stopped else allowed
        if receipt["status"] not in expected:
            wrong.append(f"{folder.name} is {receipt['status']} ({receipt['reason']})")
        wrong += _receipt(now, receipt) + _times(now, folder)
        for part in receipt["hosts"]:
            if part["host"] not in now.gone:
                host = now.lab.hosts[part["host"]]
                wrong += _logs(host, folder)
                wrong += [] if now.impatient else _outputs(host, folder)
    return " and ".join(sorted(set(statuses))) or "no run", tuple(wrong)


def _receipt(now: Round, receipt: dict[str, Any]) -> list[str]:
    """Check what the receipt says about hosts."""
    wrong = []
    for part in receipt["hosts"]:
        name = part["host"]
        if part["left"] not in (0, *([None] if name in now.gone else [])):
            wrong.append(f"the receipt says that {part['left']} are left on {name}")
        if name in now.back and not part["expiry"]:
            wrong.append(f"the receipt does not say when {name} stopped on its own")
    failure = receipt["failure"]
    if now.failing and receipt["status"] == "failed" and failure["host"] != now.failing:
        wrong.append(f"the first failure is on {failure['host']}, not {now.failing}")
    return wrong


def _not_begun(now: Round, folder: Path, allowed: frozenset[str]) -> list[str]:
    """Check that a run without a receipt never started on any host."""
    if "not begun" not in allowed:
        return [f"{folder.name} has no receipt"]
    run = f"/root/.launcher/host/runs/{folder.name}"
    started = [h.name for h in now.lab.hosts.values() if h.exists(f"{run}/journal.jsonl")]
    return [f"{folder.name} started on {host} and has no receipt" for host in started]


def _times(now: Round, folder: Path) -> list[str]:
    """Check that events are in this machine's time, whatever the clocks of hosts say."""
    events = recorded(folder)
    wrong = [e for e in events if not now.began - SKEW < e["time"] < time.time() + SKEW]
    return [f"the time of {event['event']} is not ours" for event in wrong[:1]]


def recorded(folder: Path) -> list[dict[str, Any]]:
    """Return the events of a run, without lines that are damaged."""
    found = []
    for line in (folder / "events.jsonl").read_bytes().splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            event = json.loads(line)
            found += [event] if isinstance(event, dict) and "time" in event else []
    return found


def _left(host: labs.LabHost) -> list[str]:
    """Return the processes of any run that are still on a host."""

    def found() -> list[str]:
        marked = [p for p in host.processes() if "LAUNCHER_RUN_ID" in p.environ]
        return [" ".join(process.argv)[:80] for process in marked]

    with contextlib.suppress(labs.LabError):
        labs.wait_until(lambda: not found(), "end", 20)
    return [f"left on {host.name}: {argv}" for argv in found()]


def _gpu_locks(host: labs.LabHost) -> list[str]:
    """Return the GPU locks that are still held on a host."""
    words = host.read("/proc/net/unix").decode(errors="replace").split()
    return [f"{host.name} holds {name}" for name in words if name.startswith("@launcher/")]


def _files(host: labs.LabHost, folder: str) -> dict[str, bytes]:
    listed = host.run("sh", "-c", f"cd {folder} 2>/dev/null && find . -type f", check=False)
    return {name: host.read(f"{folder}/{name}") for name in listed.stdout.decode().split()}


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _logs(host: labs.LabHost, folder: Path) -> list[str]:
    there = _files(host, f"/root/.launcher/host/runs/{folder.name}/logs")
    here = folder / "logs"
    return [f"{host.name}: {name} differs" for name in there if _bytes(here / name) != there[name]]


def _outputs(host: labs.LabHost, folder: Path) -> list[str]:
    there = _files(host, f"/root/.launcher/host/runs/{folder.name}/outputs")
    here = folder / "outputs"
    return [
        f"{host.name}: output {name} is not here"
        for name, data in there.items()
        if not (here / name).exists() or (here / name).read_bytes() != data
    ]
