"""Finds Pythons that earlier runs have left here with modules imported: for a new run, for a list, or to
end them. See docs/decisions/0088-kept-between-runs.md."""

from __future__ import annotations

import os
import sys
import time

from ..base import local_sockets, plain_files, programs, protocol, run_lock
from ..processes import inherited, processes
from ..supervisor import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import Message, SupervisorSpec

#: Seconds for one to answer: a run does not wait for what stands still.
PATIENCE = 2.0
#: Seconds to be gone, once it was asked to end; then it is killed.
ENDS = 3.0


def take(root: str, run_dir: str, spec: SupervisorSpec, request: Message) -> list[str] | None:
    """Have what fits be the supervisor of a run; return [] if one is, else why the likeliest one does
    not fit, a code and a detail, or None where there is none."""
    found = [place for place, _ in places.waiting(root)]
    if not found:
        return None
    message: dict[str, Any] = {
        "op": "take",
        "run_dir": run_dir,
        "spec": spec,
        "preload": request["warm"],
        "programs": request.get("programs", {}),
        "environ": dict(os.environ),
        "login": inherited.inherited(),
        "group": inherited.own_group(),
        "title": [sys.executable, "-I", "-S", sys.argv[0], "relay", root],
    }
    if spec.get("own_hosts"):
        message["hosts"] = plain_files.text("/etc/hosts")
    reasons = []
    for place in found:
        answer = _ask(place, message)
        if "ok" in answer:
            return []
        if "unlike" in answer:
            reasons.append([str(word) for word in answer["unlike"]])
    # One for another command or other modules is none that anybody would expect to be used.
    reasons.sort(key=lambda why: (why[0] == "other-modules", why[0] == "other-command"))
    return reasons[0] if reasons else None


def make(root: str, texts: dict[str, str]) -> str:
    """Make a place for what a new run will leave, with its programs. Raises OSError."""
    places.clear(root)
    place = places.make(root)
    folder = programs.folder(place, "bin")
    for name, text in texts.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
        os.chmod(path, 0o700)
    return place


def listed(root: str) -> list[Message]:
    """Return what is kept here: modules, command, since when and for how many seconds more, its
    processes and their memory in bytes."""
    places.clear(root)
    found = []
    for place, about in places.waiting(root):
        pid = run_lock.owner(place)
        pids = [pid, *processes.descendants(pid)] if pid else []
        found.append(
            {
                "modules": about.get("modules", []),
                "command": about.get("command", ""),
                "since": about.get("since", 0.0),
                "left": max(0.0, about.get("until", 0.0) - time.time()),
                "pids": pids,
                "memory": sum(map(_memory, pids)),
            }
        )
    return found


def end(root: str) -> int:
    """End all that is kept here; return how many there were."""
    found = [place for place, _ in places.waiting(root)]
    for place in found:
        _ask(place, {"op": "end"}, 0.0)
    deadline = time.monotonic() + ENDS
    while any(map(run_lock.is_alive, found)) and time.monotonic() < deadline:
        time.sleep(0.01)
    for place in filter(run_lock.is_alive, found):
        pid = run_lock.owner(place) if places.known(place) is not None else None
        if pid:
            processes.send([pid], 9)
    return len(found)


def wait(argv: list[str]) -> None:
    """Run ``kept NUMBER TEXT``: wait for the next run; the text is for ps(1)."""
    from ..supervisor import kept

    kept.serve(int(argv[0]), _store)


def _store(supply: Message, age: float, silent: float, alone: bool) -> None:
    from . import unattended  # few runs have it, and only at their end

    unattended.begin(supply, age, silent, alone)


def _ask(place: str, message: dict[str, Any], patience: float = PATIENCE) -> Message:
    """Return what the owner of a place answers; nothing where it does not, or another was quicker."""
    try:
        with local_sockets.connect(place, places.SOCKET) as line:
            line.settimeout(max(patience, 0.1))
            line.sendall(protocol.encode(message))
            decoder = protocol.Decoder(forgiving=True)
            while patience and (data := line.recv(1 << 16)):
                for answer, _ in decoder.feed(data):
                    return answer
    except OSError:
        pass
    return {}


def _memory(pid: int) -> int:
    """Return the bytes of memory that are a process's own, or its part of what it shares."""
    for line in plain_files.text("/proc/%d/smaps_rollup" % pid).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0
