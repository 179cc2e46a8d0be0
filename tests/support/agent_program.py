"""Use the agent as launcher does, but without launcher: run by the Pythons that hosts have.

``PYTHON -I -S agent_program.py FOLDER``, where FOLDER has ``agent`` and ``start.py`` as on a host. It
imports every module, then asks a relay for a whole run. Python 3.8 has to understand it.
"""

import importlib
import json
import os
import subprocess
import sys

FOLDER = sys.argv[1]
RUN = "calm-hare"
sys.path.insert(0, FOLDER)


def import_everything():
    base = os.path.join(FOLDER, "agent")
    for folder, _, files in os.walk(base):
        for name in sorted(files):
            place = os.path.relpath(os.path.join(folder, name), FOLDER)
            # messages.py is for type checkers; sitecustomize.py is no module of the package
            if name.endswith(".py") and name not in ("messages.py", "sitecustomize.py"):
                importlib.import_module(place[: -len(".py")].replace(os.sep, "."))


class Relay:
    """A relay as a child process, with its answers by request number."""

    def __init__(self):
        argv = [sys.executable, "-I", "-S", os.path.join(FOLDER, "start.py"), "relay"]
        self.process = subprocess.Popen(
            argv + [os.path.join(FOLDER, "root")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        from agent.base import protocol

        self.protocol, self.decoder = protocol, protocol.Decoder()
        self.events, self.logs, self.idle, self.answers = [], {}, None, {}
        self.asked = 0

    def hear(self):
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        assert data, "the relay went away"
        for message, payload in self.decoder.feed(data):
            if "id" in message:
                self.answers[message["id"]] = message
            elif "journal" in message:
                self.events.append(message["journal"])
            elif "log" in message:
                known = self.logs.setdefault(message["log"], b"")
                assert message["offset"] == len(known)
                self.logs[message["log"]] = known + payload
            elif "idle" in message:
                self.idle = message["idle"]

    def ask(self, op, **request):
        answer = self.try_to(op, **request)
        assert "ok" in answer, answer
        return answer["ok"]

    def try_to(self, op, payload=b"", **request):
        self.asked += 1
        message = dict(request, id=self.asked, op=op)
        self.process.stdin.write(self.protocol.encode(message, payload))
        self.process.stdin.flush()
        while self.asked not in self.answers:
            self.hear()
        return self.answers[self.asked]

    def until(self, event):
        while event not in [each["event"] for each in self.events]:
            self.hear()

    def until_idle(self):
        while self.idle is None:
            self.hear()

    def close(self):
        self.process.stdin.close()
        assert self.process.wait() == 0


def process(key, rank, code):
    argv = [sys.executable, "-S", "-c", code]
    return {"key": key, "rank": rank, "argv": argv, "env": {}, "cwd": FOLDER}


def supervise(relay, run):
    spec = {"host": "a", "grace": 5.0, "orphan_timeout": None, "stall": 60.0, "inside": True}
    relay.ask("supervise", run=run, record={}, spec=spec)
    relay.ask("follow", run=run, journal=0, logs={})


def start(relay, run, stage, processes):
    request = {"stage": stage, "attempt": 0, "path": [], "processes": processes}
    relay.ask("start", run=run, gpus=[], gpu_uuids={}, **request)


def codes(relay):
    exits = [each for each in relay.events if each["event"] == "ProcessExited"]
    return {each["key"]: each["code"] for each in exits}


def a_run_that_ends_well():
    relay = Relay()
    facts = relay.ask("probe", gpus=True)
    assert facts["python_version"] == "%d.%d.%d" % sys.version_info[:3], facts
    supervise(relay, RUN)
    start(relay, RUN, "setup", [process("setup-0", None, "print('ready')")])
    relay.until("ProcessExited")
    start(relay, RUN, "run", [process("rank-%d" % n, n, "print(%d)" % n) for n in range(2)])
    relay.until_idle()
    assert codes(relay) == {"setup-0": 0, "rank-0": 0, "rank-1": 0}, relay.events
    assert relay.logs["attempt-0/rank-1.out"] == b"1\n", relay.logs
    assert relay.idle == {name: len(relay.logs.get(name, b"")) for name in relay.idle}
    assert relay.events[-1]["left"] == 0, relay.events
    listed = relay.ask("outputs", run=RUN, paths=["start.py"])
    assert listed["outputs"] == [], listed
    swept = relay.ask("sweep", run=RUN, host="a", kill=True)
    assert swept["left"] == [], swept
    assert [run["alive"] for run in relay.ask("runs")["runs"]] == [False]
    relay.ask("remove", run=RUN)
    relay.close()


def a_run_that_is_stopped():
    relay = Relay()
    supervise(relay, "odd-owl")
    start(relay, "odd-owl", "run", [process("rank-0", 0, "import time; time.sleep(600)")])
    relay.ask("stop", run="odd-owl", grace=5.0, why="by-user")
    relay.until_idle()
    assert codes(relay) == {"rank-0": -15}, relay.events
    relay.close()


def a_run_with_a_failure():
    relay = Relay()
    supervise(relay, "red-fox")
    sleeper = process("rank-1", 1, "import time; time.sleep(600)")
    start(relay, "red-fox", "run", [process("rank-0", 0, "raise SystemExit(3)"), sleeper])
    relay.until_idle()
    assert codes(relay) == {"rank-0": 3, "rank-1": -15}, relay.events
    relay.close()


def what_a_check_asks():
    relay = Relay()
    survey = relay.ask("survey", modules=["json", "no_such_module"])
    assert survey["software"]["missing"] == ["no_such_module"], survey["software"]
    places = relay.ask("mirror", ports=[29500], token="abc")
    way = {"addresses": [["127.0.0.1", 1500]], "ports": places["ports"], "udp": places["udp"]}
    (told,) = relay.ask("explore", ways=[dict(way, token="abc")])["ways"]
    assert told["address"] == "127.0.0.1", told
    found = relay.ask(
        "bandwidth", address="127.0.0.1", port=places["high"], token="abc", seconds=1.0
    )
    assert found["bandwidth"] > 0, found
    relay.ask("unmirror")
    assert relay.ask("resolve", names=["localhost"])["names"]["localhost"]
    assert relay.ask("end_orphans") == {"ended": 0}
    assert relay.try_to("no-such-request")["error"]["code"] == "unknown-request"
    relay.close()


def what_a_copy_of_code_asks():
    relay = Relay()
    wanted = {"run": RUN, "source": "s", "version": "0" * 32}
    place = relay.ask("snapshot", **wanted)
    assert not place["have"], place
    os.makedirs(os.path.join(place["folder"], "incoming-1"))
    with open(os.path.join(place["folder"], "incoming-1", "train.py"), "w") as file:
        file.write("1")
    version = relay.ask("seal", source="s", incoming="incoming-1")["version"]
    assert relay.ask("snapshot", **dict(wanted, version=version))["have"]
    known = relay.ask("snapshot", list=1, **wanted)["known"]
    assert [file[0] for file in known["files"]] == ["train.py"], known
    patch = {"base": version, "gone": [], "files": [["new.py", 3, 10**18, 0o444]], "links": []}
    assert not relay.ask("patch", payload=b"1+1", **dict(wanted, **patch))["have"]
    known = relay.ask("snapshot", list=1, **wanted)["known"]
    assert sorted(file[0] for file in known["files"]) == ["new.py", "train.py"], known
    relay.close()


import_everything()
for part in (
    a_run_that_ends_well,
    a_run_that_is_stopped,
    a_run_with_a_failure,
    what_a_check_asks,
    what_a_copy_of_code_asks,
):
    part()
print(json.dumps({"python": "%d.%d" % sys.version_info[:2]}))
