"""Finds Pythons that earlier runs have left here with modules imported: for a new run, for a list, or to
end them. See docs/decisions/0088-kept-between-runs.md."""

from __future__ import annotations

import os
import sys
import time

from ..base import local_sockets, plain_files, programs, protocol, run_lock
from ..base.lean import Socket, signal, socket
from ..processes import inherited, processes
from ..supervisor.environment import early_environment
from ..supervisor.warm import places, question
from ..supervisor.warm.asked import asked_of
from ..supervisor.warm.keeper import agent_folder, ask_to_end
from ..supervisor.warm.rules import OfRun

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.messages import Message, SupervisorSpec

#: Seconds for one to answer: a run does not wait for what stands still.
PATIENCE = 2.0
#: Seconds for one that fits to be the supervisor of a run; then it is killed.
BEGINS = 10.0
#: Seconds to be gone, once it was asked to end; then it is killed.
ENDS = 3.0


def take(root: str, run_dir: str, spec: SupervisorSpec, request: Message) -> list[str] | None:
    """Have what fits be the supervisor of a run; return [] if one is, else why the likeliest one does
    not fit, a code and a detail, or None where there is none."""
    found = [place for place, _ in places.waiting(root)]
    if not found:
        return None
    begin: dict[str, Any] = {
        "op": "begin",
        "run_dir": run_dir,
        "spec": spec,
        "environ": dict(os.environ),
        "group": inherited.own_group(),
    }
    if spec.get("own_hosts"):
        begin["hosts"] = plain_files.text("/etc/hosts")
    ask = _Questions(spec, request)
    reasons = []
    for place in found:
        try:
            why = _offer(place, ask.about(place), begin)
        except OSError:
            continue  # it is gone, or another run was quicker
        if why == []:
            return []
        if why:
            reasons.append(why)
    # One for another command or other modules is none that anybody would expect to be used.
    reasons.sort(key=lambda why: (why[0] == "other-modules", why[0] == "other-command"))
    return reasons[0] if reasons else None


class _Questions:
    """Asks whether what is kept fits a run."""

    def __init__(self, spec: SupervisorSpec, request: Message) -> None:
        self._preload, self._programs = request["warm"], request.get("programs", {})
        self._env = early_environment(self._preload)
        self._stacks = bool(spec.get("inside"))
        if self._stacks:
            from ..supervisor.stacks import StackTaker

            StackTaker(lambda *_, **__: None, True).prepare(self._env)
        self._terms = {
            "agent": os.path.basename(agent_folder()),
            "own_hosts": bool(spec.get("own_hosts")),
            "login": inherited.inherited(),
        }

    def about(self, place: str) -> Message:
        """Return the question to the owner of a place."""
        process, secrets = self._preload["process"], self._preload.get("secrets") or {}
        run = OfRun(self._env, secrets, place)
        modules, argv, cwd = self._preload["modules"], process["argv"], process["cwd"]
        asked = asked_of(modules, argv, self._env, cwd, self._stacks, run)
        key = os.urandom(question.KEY)
        return {"op": "take", **self._terms, **question.question(asked, self._programs, key)}


def _offer(place: str, ask: Message, begin: Message) -> list[str] | None:
    """Have the owner of a place be a run's supervisor; return [] if it is, why it does not fit, or None
    where it does not answer. Raises OSError."""
    with local_sockets.connect(place, places.SOCKET) as line:
        line.settimeout(PATIENCE)
        line.sendall(protocol.encode(ask))
        answer = _heard(line)
        if "fits" not in answer:
            return [str(word) for word in answer.get("unlike", [])] or None
        line.settimeout(BEGINS)
        line.sendall(protocol.encode(begin))
        try:
            return [] if "ok" in _heard(line) else None
        except socket.timeout:
            # It must not begin once another supervisor has: the line is open, so this is still its pid.
            processes.send([_pid(line)], signal.SIGKILL)
            return None


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
        ask_to_end(place)
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


def _heard(line: Socket) -> Message:
    """Return what the other end says; nothing where it hangs up."""
    decoder = protocol.Decoder(forgiving=True)
    while data := line.recv(1 << 16):
        for answer, _ in decoder.feed(data):
            return answer
    return {}


def _pid(line: Socket) -> int:
    """Return the process that listens at the other end (unix(7))."""
    return int.from_bytes(
        line.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[:4], sys.byteorder
    )


def _memory(pid: int) -> int:
    """Return the bytes of memory that are a process's own, or its part of what it shares."""
    for line in plain_files.text("/proc/%d/smaps_rollup" % pid).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0
