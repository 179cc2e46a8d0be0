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
from launcher.agent.relay.relay import Relay
from launcher.agent.supervisor import clients, daemon, supervisor

relay = Relay(sys.argv[1])
serve, close = supervisor.Supervisor.serve, clients.Clients.close

def supervise():
    spec = dict.fromkeys(("lease", "stall", "inside"), None)
    relay.do_supervise({"run": "calm-hare", "record": {}, "spec": dict(spec, host="a", grace=0)})

def end(until):
    with relay._connect() as listener:
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


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(AS_SOON_AS_CLOSED + ANSWERS, id="as soon as its clients hear of the end"),
        pytest.param(STILL_ENDING + ANSWERS, id="while it still ends"),
        pytest.param(NEVER_LEAVES, id="where it never leaves"),
        pytest.param(IS_THERE, id="while it serves"),
    ],
)
def test_a_run_is_supervised_again(root: Path, steps: str) -> None:
    """The one that answers afterwards is one that can start processes."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LAUNCHER_LOCK_SCOPE": str(root)}
    argv = [sys.executable, "-c", ATTEMPTS + steps, str(root)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
