"""Reads the folders of runs on this host: logs, records, and whether a supervisor is alive."""

from __future__ import annotations

import os
import time

from ..base import lean, plain_files, protocol, run_lock
from ..base.journal import read_from
from ..processes import cgroup, processes
from . import gpu_locks

#: Where a run notes its containers.
CONTAINERS = "containers"
#: Below the root: where those of no run are noted.
VISITORS = "visitors"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..base.messages import Message, StartRequest


def logs_of(run_dir: str) -> Iterator[tuple[str, str]]:
    """Yield the logs of a run, as ``(name, path)``."""
    root = os.path.join(run_dir, "logs")
    try:
        attempts = sorted(os.listdir(root))
    except OSError:
        return
    for attempt in attempts:
        folder = os.path.join(root, attempt)
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            yield attempt + "/" + name, os.path.join(folder, name)


def was_started(run_dir: str, request: StartRequest) -> bool:
    """Return whether the journal has a process that this request is to start."""
    keys = {process["key"] for process in request["processes"]}
    records = [record for record, _ in read_from(os.path.join(run_dir, "journal.jsonl"), 0)]
    mine = [record for record in records if record.get("attempt") == request["attempt"]]
    return any(record.get("key") in keys for record in mine)


def runs(root: str) -> Message:
    """Return the runs of this user, ``{"run", "alive", "started", "waits", "again", "record"}``; and
    ``going_on``, those of all users that a supervisor owns on this host now, with their GPUs."""
    found = []
    base = os.path.join(root, "runs")
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else ():
        place = os.path.join(base, name)
        try:
            record = lean.loads(plain_files.content(os.path.join(place, "run.json")).decode())
        except (OSError, ValueError, RecursionError):
            record = None  # it is damaged, or never got a supervisor
        started, waits, again = _progress(place)
        found.append(
            {
                "run": name,
                "alive": run_lock.is_alive(place),
                "started": started,
                "waits": waits,
                "again": again,
                "record": record,
            }
        )
    gpus: dict[tuple[Any, Any], list[int]] = {}
    for index, holder in sorted(gpu_locks.held().items()):
        gpus.setdefault((holder.get("uid"), holder.get("run")), []).append(index)
    going_on = [
        dict(
            holder,
            user=holder.get("user", "?"),
            gpus=gpus.get((holder.get("uid"), holder["run"]), []),
        )
        for holder in gpu_locks.registered()
    ]
    return {"runs": found, "going_on": going_on}


def standing(run_dir: str) -> Message:
    """Return whether a supervisor owns the run, and when one stopped it on its own (``time``,
    ``silent``), by a clock that says ``now``."""
    ends = [r for r, _ in read_from(os.path.join(run_dir, "journal.jsonl"), 0)]
    ends = [r for r in ends if r["event"] in ("OrphanTimeoutExpired", "LeaseExpired")]  # before 0.1
    expiry = {key: ends[-1].get(key) for key in ("time", "silent")} if ends else None
    return {"alive": run_lock.is_alive(run_dir), "expiry": expiry, "now": time.time()}


def strays(base: str) -> dict[int, str]:
    """Return ``{pid: run_dir}`` of processes of runs below ``base`` whose supervisor is gone."""
    mark, found = b"LAUNCHER_RUN_DIR=" + os.fsencode(base) + b"/", {}
    there_now = processes.living()
    for pid, variables in processes.environments(there_now):
        for variable in variables or ():
            if variable.startswith(mark):
                name = os.fsdecode(variable[len(mark) :])
                run_dir = os.path.join(base, name)
                if run_lock.is_run_name(name) and not run_lock.is_alive(run_dir):
                    found[pid] = run_dir
                break
    there = os.path.realpath(base)
    for pid, path in processes.writers(there, there_now):
        name, inside = (path[len(there) + 1 :].split("/") + [""])[:2]
        run_dir = os.path.join(base, name)
        if inside == "logs" and not run_lock.is_alive(run_dir):
            found[pid] = run_dir
    for run_dir in _with_dead_groups(base):
        found.update((pid, run_dir) for group in cgroup.of(run_dir) for pid in group.pids())
    return found


def left_of_builds(root: str) -> Iterator[int]:
    """Yield the processes that write what the build of an environment prints, where nobody builds it any
    more: its agent and its guard were killed at once."""
    folder = os.path.realpath(os.path.join(root, "envs"))
    for pid, path in processes.writers(folder) if os.path.isdir(folder) else ():
        key = path[len(folder) + 1 :].partition(".")[0]
        lock = os.path.join(folder, "locks", key)
        if path.endswith(".log") and os.path.isfile(lock) and not run_lock.is_held(lock):
            yield pid


def end_strays(root: str) -> int:
    """Kill what :func:`strays` and :func:`left_of_builds` find and remove their control groups; return
    how many there were.

    The kernel kills the children of a killed supervisor, but not their background processes.
    """
    base = os.path.join(root, "runs")
    found = {*strays(base), *left_of_builds(root)}
    processes.send(found, 9)
    _remove_containers(base)
    if os.path.isdir(os.path.join(root, VISITORS)):
        from ..processes import visitors  # few hosts have had any

        visitors.end_left(root)
    for run_dir in _with_dead_groups(base):
        found.update(cgroup.end(run_dir))
    return len(found)


def _with_dead_groups(base: str) -> Iterator[str]:
    """Yield the folders of runs that have, or had, a control group, and no supervisor."""
    for name in sorted(os.listdir(base)) if os.path.isdir(base) else ():
        run_dir = os.path.join(base, name)
        if os.path.exists(os.path.join(run_dir, cgroup.NAMES)) and not run_lock.is_alive(run_dir):
            yield run_dir


def _remove_containers(base: str) -> None:
    """Remove the containers of runs without a supervisor."""
    for name in os.listdir(base) if os.path.isdir(base) else ():
        run_dir = os.path.join(base, name)
        if os.path.exists(os.path.join(run_dir, CONTAINERS)) and not run_lock.is_alive(run_dir):
            end_containers(run_dir)


def end_containers(run_dir: str) -> None:
    """Remove the containers that a run has left, if it had any."""
    if os.path.exists(os.path.join(run_dir, CONTAINERS)):
        from ..processes import container_list  # few runs are in an image

        container_list.end(run_dir)


def end_strays_of(run_dir: str, seconds: float = 2.0) -> None:
    """Kill the strays of one run, and wait up to ``seconds`` until they are gone.

    A supervisor's socket closes a moment before the kernel kills its children: until then they
    write, and their logs are not complete.
    """
    mark = b"LAUNCHER_RUN_DIR=" + os.fsencode(run_dir)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not run_lock.is_alive(run_dir):
        there = processes.living()
        own = processes.environments(there)
        left = [pid for pid, variables in own if mark in (variables or ())]
        left += _writers(run_dir, there)
        left += cgroup.end(run_dir)
        if not left:
            return
        processes.send(left, 9)
        time.sleep(0.01)


def sweep(run_dir: str, run_id: str, host: str, kill: bool, seconds: float) -> Message:
    """Look for processes of the run among all of this host; kill them if asked to."""
    deadline = time.monotonic() + seconds
    killed = set()
    while True:
        there = processes.living()
        left, scanned, unreadable = processes.marked(run_id, host, there)
        grouped = [pid for group in cgroup.of(run_dir) for pid in group.pids()]
        left = sorted({*left, *grouped, *_writers(run_dir, there)})
        if not left or not kill or time.monotonic() > deadline:
            break
        killed.update(left)
        processes.send(left, 9)
        time.sleep(0.02)
    if not left and kill:
        stopped = _end_owner(run_dir, deadline)
        killed.update(stopped)
        left = stopped if run_lock.is_alive(run_dir) else []
    if not left and not run_lock.is_alive(run_dir):
        cgroup.close(run_dir)
        end_containers(run_dir)
    return {
        "left": [processes.describe(pid) for pid in left],
        "killed": len(killed),
        "scanned": scanned,
        "unreadable": unreadable,
    }


def _writers(run_dir: str, there: list[int]) -> list[int]:
    """Return those of the processes that are ``there`` which write to the logs of a run."""
    logs = os.path.realpath(os.path.join(run_dir, "logs"))
    return [pid for pid, _ in processes.writers(logs, there)]


def _end_owner(run_dir: str, deadline: float) -> list[int]:
    """Kill the supervisor of a run that is over, unless it exits by the deadline; return its pid.

    It may stand still: then it would hold the run for ever.
    """
    while run_lock.is_alive(run_dir) and time.monotonic() < deadline:
        time.sleep(0.01)
    pid = run_lock.owner(run_dir) if run_lock.is_alive(run_dir) else None
    if pid is None:
        return []
    processes.send([pid], 9)
    deadline = time.monotonic() + 2.0
    while run_lock.is_alive(run_dir) and time.monotonic() < deadline:
        time.sleep(0.01)
    return [pid]


def _progress(place: str) -> tuple[bool, bool, int]:
    """Return whether processes of the run itself, not only of its setup, were started; whether this host
    is to start them, or leads those that are; and the attempt with which it waits again, 0 for none."""
    started, waits, again = False, False, 0
    for record, _ in read_from(os.path.join(place, "journal.jsonl"), 0):
        event = record["event"]
        if event == "ProcessStarted" and not str(record.get("key")).startswith(protocol.SETUP):
            started, again = True, 0
        elif event == "WaitsAgain":
            again = record.get("attempt") or 0
        waits = (waits or event in ("WaitsOnHost", "WaitsOnHosts")) and event != "HostEnded"
    return started, waits and not started, again
