"""Two supervisors of one run on one host, one after the other, as a restart has them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from support import ROOT

#: The relay's part of two attempts. The first supervisor pauses at one point of its end.
ATTEMPTS = """
import fcntl, os, select, signal, sys
from launcher.agent.base import protocol
from launcher.agent.host import gpu_locks
from launcher.agent.relay import supervisor_line
from launcher.agent.relay.relay import Relay
from launcher.agent.supervisor import clients, daemon, supervisor

relay = Relay(sys.argv[1])
serve, close = supervisor.Supervisor.serve, clients.Clients.close

def supervise():
    spec = dict.fromkeys(("lease", "stall", "inside"), None)
    relay.do_supervise({"run": "calm-hare", "record": {}, "spec": dict(spec, host="a", grace=0)})

def end(until):
    with supervisor_line.connect(relay.run_dir) as listener:
        listener.sendall(protocol.encode({"op": "subscribe"}))
        relay.do_stop({"op": "stop", "run": "calm-hare", "grace": 0, "why": "a rank failed"})
        while not until(listener.recv(4096)):
            pass

def journal(_):
    return b"HostEnded" in open("journal.jsonl", "rb").read()
"""
AS_SOON_AS_CLOSED = """
def close_and_pause(self):
    close(self)
    os.kill(os.getpid(), signal.SIGSTOP)

clients.Clients.close = close_and_pause
supervise()
end(lambda heard: not heard)
assert gpu_locks.registered() == [], "the host still lists the run"
supervise()
"""
STILL_ENDING = """
def serve_and_pause(self):
    serve(self)
    select.select([self.clients.sockets[0]], [], [])  # until the next supervisor asks for this one

supervisor.Supervisor.serve = serve_and_pause
supervise()
end(journal)
supervise()
"""
ANSWERS = """
relay._ask({"run": "calm-hare", "op": "subscribe"})
assert open("journal.jsonl").read().count("SupervisorStarted") == 2
"""
NEVER_LEAVES = """
daemon.LEAVES = 0.0
os.chdir(relay._make_run_dir("calm-hare"))
lock = open("supervisor.lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
try:
    supervise()
except OSError as error:
    assert "neither answers nor exits" in str(error), error
else:
    raise AssertionError("it started")
"""
IS_THERE = """
supervise()
supervise()
assert open(os.path.join(relay.run_dir, "journal.jsonl")).read().count("SupervisorStarted") == 1
"""

#: The host got the first part of the agent alone, and then another version of launcher comes.
HAS_A_PART = """
from launcher.transport.agent_parts import REST
assert [one for one in sys.modules if one.replace("launcher.", "").replace(".", "/").startswith(REST)] == []
for name in ("supervisor.gang", "supervisor.warm", "base.manifest"):
    sys.modules["launcher.agent." + name] = None
supervise()
gang = {"gang": {"hosts": ["a"], "address": "b", "port": 2, "key": "k"}, "gpus": {}, "names": {}, "ports": [1]}
process = {"key": "k", "argv": ["x"], "env": {}, "cwd": "/"}
urls = {"host": "a", "hosts": ["a"], "paths": [], "urls": ["http://a"], "manifest": "http://b", "headers": {}}
for request in (
    {"op": "gather", **gang},
    {"op": "return", **gang},
    {"op": "preload", "modules": ["json"], "path": [], "process": process},
    {"op": "unattended", **urls, "seconds": 9},
):
    try:
        supervisor_line.ask(relay.run_dir, request, lambda: None)
    except protocol.Refused as refused:
        assert refused.code == protocol.UNKNOWN_REQUEST, refused.code
        assert "only the version that started the run" in str(refused), refused
    else:
        raise AssertionError(request["op"])
end(journal)
assert "UrlsLeft" not in open(os.path.join(relay.run_dir, "journal.jsonl")).read()
"""

#: An attempt that fails, which another may follow: its Python has imported a module.
STAYS = """
import time
from launcher.agent.base import run_lock
from launcher.agent.processes import processes
from launcher.agent.supervisor import staying

def wait_until(is_so):
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)

def over():
    return not run_lock.is_alive(run_dir) and not [pid for pid in known if pid in processes.table()]

def attempt():
    supervise()
    code = os.path.join(run_dir, "code")
    os.makedirs(code, exist_ok=True)
    open(os.path.join(code, "train.py"), "w").write("raise SystemExit(1)")
    env = {"LAUNCHER_RUN_ID": "calm-hare", "LAUNCHER_HOST": "a", "LAUNCHER_RUN_DIR": run_dir}
    argv = [sys.executable, "train.py"]
    process = {"key": "rank-0", "rank": 0, "argv": argv, "env": env, "cwd": code}
    with supervisor_line.connect(relay.run_dir) as launcher:
        launcher.sendall(protocol.encode({"op": "subscribe"}))
        run = {"run": "calm-hare", "path": []}
        relay.do_preload({**run, "op": "preload", "modules": ["json.tool"], "process": process})
        wait_until(lambda: b"Preloaded" in open("journal.jsonl", "rb").read())
        owner = run_lock.owner(run_dir)
        known.update([owner, *processes.descendants(owner)])
        stage = {"op": "start", "stage": "run", "attempt": 0, "processes": [process], "stay": 1}
        relay.do_start({**run, **stage})
        while launcher.recv(4096):
            pass
    assert b"HostEnded" in open("journal.jsonl", "rb").read()
    assert staying.FIRST < 1 or not over(), "it stays"

run_dir, known = os.path.join(sys.argv[1], "runs", "calm-hare"), set()
staying.FIRST = staying.SILENT = 60.0
"""
NOBODY_HOLDS = "staying.FIRST = 0.1\nattempt()\nwait_until(over)\n"
SILENCE = "staying.SILENT = 0.1\nattempt()\nrelay.line.have_stay(run_dir)\nwait_until(over)\n"
LET_GO = "attempt()\nrelay.line.have_stay(run_dir)\nrelay.line.let_go()\nwait_until(over)\n"
STOPPED = """
attempt()
relay.line.have_stay(run_dir)
stop = {"op": "stop", "run": "calm-hare", "grace": 0}
relay.do_stop({**stop, "why": "restarting"})
assert run_lock.is_alive(run_dir), "a launcher may not have heard yet that the attempt is over"
owner = run_lock.owner(run_dir)
relay.do_stop({**stop, "why": "by-user"})
left = [pid for pid in known - {owner} if pid in processes.table()]
assert not left, "it answers when all is done"
wait_until(over)
"""
GOES_ON = """
attempt()
relay.line.have_stay(run_dir)
owner = run_lock.owner(run_dir)
answer = relay.do_supervise(
    {"run": "calm-hare", "record": {}, "next": 1, "spec": {"host": "a", "grace": 0, "attempt": 1}}
)
assert answer == {"stayed": 1} and run_lock.owner(run_dir) == owner
relay.do_stop({"op": "stop", "run": "calm-hare", "grace": 0, "attempt": 0})  # the one before
assert relay.do_supervise(
    {"run": "calm-hare", "record": {}, "next": 1, "spec": {"host": "a", "grace": 0, "attempt": 1}}
) == {"stayed": 0}, "it is there already"
assert run_lock.owner(run_dir) == owner, "a stop that others passed on is of their attempt alone"
relay.do_stop({"op": "stop", "run": "calm-hare", "grace": 0})
wait_until(over)
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """The agent's folder on a host; supervisors that are left there are killed."""
    yield tmp_path
    journal = tmp_path / "runs" / "calm-hare" / "journal.jsonl"
    for line in journal.read_text().splitlines() if journal.exists() else ():
        record = json.loads(line)
        if record["event"] == "SupervisorStarted":
            with suppress(ProcessLookupError):
                os.kill(record["pid"], signal.SIGKILL)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(AS_SOON_AS_CLOSED + ANSWERS, id="as soon as its clients hear of the end"),
        pytest.param(STILL_ENDING + ANSWERS, id="while it still ends"),
        pytest.param(NEVER_LEAVES, id="where it never leaves"),
        pytest.param(IS_THERE, id="while it serves"),
        pytest.param(STAYS + NOBODY_HOLDS, id="never, and nobody holds it"),
        pytest.param(STAYS + SILENCE, id="never, and who holds it says nothing"),
        pytest.param(STAYS + LET_GO, id="never, and who held it is gone"),
        pytest.param(STAYS + STOPPED, id="never, as it was stopped"),
        pytest.param(STAYS + GOES_ON, id="by the same process"),
    ],
)
def test_a_run_is_supervised_again(root: Path, steps: str) -> None:
    """The one that answers afterwards is one that can start processes."""
    _succeeds(root, steps)


@pytest.mark.thorough
def test_who_has_a_part_of_the_agent_says_so(root: Path) -> None:
    """Launchers know what to do about a supervisor that does not know a request."""
    _succeeds(root, HAS_A_PART)


def _succeeds(root: Path, steps: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LAUNCHER_LOCK_SCOPE": str(root)}
    argv = [sys.executable, "-c", ATTEMPTS + steps, str(root)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
