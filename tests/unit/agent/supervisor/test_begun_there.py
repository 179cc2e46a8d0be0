"""A run that its hosts start: none begins that the disk does not know of, or a launcher starts it again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import ROOT

#: A supervisor with a run whose turn it is, and two ways in which its disk takes no more.
SUPERVISOR = """
import errno, json, os, resource, sys, time
from launcher.agent.base import protocol
from launcher.agent.supervisor import waiting
from launcher.agent.supervisor.supervisor import Supervisor

waiting.strangers = lambda leased: []
real = os.fsync
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

def journal():
    with open("journal.jsonl") as file:
        text = file.read()
    return [json.loads(line)["event"] for line in text[: text.rfind("\\n") + 1].splitlines()]

def refuse(fd):
    if "BegunThere" in journal():
        raise OSError(errno.EIO, "the disk has lost it")
    real(fd)

def break_disk():
    if sys.argv[1] == "full":
        size = os.path.getsize("journal.jsonl") + 30
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    else:
        os.fsync = refuse

def mend_disk():
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    os.fsync = real

def check():
    assert owner.journal.sync()
    events = journal()
    assert events.count("BegunThere") == 1 and events.index("BegunThere") < events.index(after), events

def start(port):
    process = {"key": "node-0", "argv": ["true"], "env": {}, "cwd": os.getcwd()}
    return {"stage": "run", "attempt": 0, "path": [], "processes": [process],
            "port": port, "ports": [], "gpus": []}

owner = Supervisor({"run_id": "calm-hare", "host": "a", "grace": 0})
"""
ALONE = """
after = "ProcessStarted"
answer = owner.queue.wait({
    "ticket": {"number": 7, "hosts": 1, "shares": [1], "by_itself": True},
    "gpus": [0], "names": {}, "start": start(777001), "ports": [20000, 32000],
    "tokens": {"gpus": ["555001"], "names": ["gpu-a"], "ports": ["777001"]},
})
break_disk()
owner.queue.look(time.monotonic())
assert owner.queue.alone and not owner.machine.has_begun, "it waits on"
assert owner.claims.gpus == [], "and holds nothing meanwhile"
mend_disk()
owner.queue.look(time.monotonic() + 5)
assert owner.queue.alone is None and owner.machine.has_begun
check()
"""
TOGETHER = """
after = "Next"
given = {"gpus": [], "names": [], "ports": []}
way = {"counts": {}, "tokens": {"a": {}, "b": {}}, "address": "b", "interfaces": {}, "addresses": {}}
hands = owner.queue.hands
break_disk()
assert not hands.commit(start(None), given, way, 1.0)
assert "BegunThere" not in journal()
mend_disk()
assert hands.commit(start(None), given, way, 1.0)
owner.journal.append("Next")
check()
"""


@pytest.mark.parametrize("disk", ["full", "broken"])
@pytest.mark.parametrize("steps", [ALONE, TOGETHER], ids=["alone", "together"])
def test_it_begins_once_the_disk_has_it(tmp_path: Path, steps: str, disk: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LAUNCHER_LOCK_SCOPE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SUPERVISOR + steps, disk],
        cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
