"""Throw broken bytes at everything that reads what another machine sends: ``make fuzz SECONDS=60``.

Each target takes bytes and raises only where launcher would misbehave: a host's bytes must become
values with bounds or an error of that host, and a request must be answered or refused. Inputs are
mutations of a small corpus of real messages. A seed makes a session the same again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pkgutil
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from launcher.agent.base import lean, protocol
from launcher.agent.relay import relay as relays
from launcher.agent.supervisor import requests
from launcher.cli.render import log_lines
from launcher.cli.terminal import harmless
from launcher.records import codec
from launcher.records import events as ev
from launcher.records.state import RunState, step
from launcher.runner.session.belongings import Belongings
from launcher.spec.errors import BadAnswer, UnreadableRecord
from launcher.spec.model import Host, Job, Layout, Node
from launcher.transport import answers
from launcher.transport.agent_client import Agent
from launcher.transport.answers.facts import read_facts
from launcher.transport.answers.reading import read

LAYOUT = Layout("run-1", tuple(Node(Host(f"h{n}"), n, 1, n) for n in range(2)))
EVENT = {"attempt": 0, "seq": 1, "time": 1.7e9}

#: Real messages, one for every kind.
CORPUS: tuple[dict[str, Any], ...] = (
    {"magic": protocol.MAGIC, "version": 1, "pid": 4},
    {"id": 1, "ok": {}},
    {"id": 1, "error": {"code": "os", "message": "no", "errno": 2}},
    {"log": "attempt-0/rank-1.out", "offset": 0, "size": 3},
    {"idle": {"attempt-0/rank-1.out": 3}, "journal_end": 9},
    {"working": 1},
    {"journal": {**EVENT, "event": "ProcessStarted", "key": "rank-1", "rank": 1, "pid": 7}, "end": 9},
    {"journal": {**EVENT, "event": "ProcessExited", "key": "rank-1", "rank": 1, "code": -9, "at": 2.0,
                 "error": {"message": "m", "traceback": "t"}}, "end": 9},
    {"journal": {**EVENT, "event": "StopRequested", "why": "lease expired on a", "asked": True}, "end": 9},
    {"journal": {**EVENT, "event": "HostEnded", "left": 0, "scanned": 3, "unreadable": 0}, "end": 9},
    {"journal": {**EVENT, "event": "OrphansFound", "processes": [{"pid": 3, "command": "x"}]}, "end": 9},
    {"journal": {**EVENT, "event": "StallBegan", "seconds": 3.0, "ranks": [
        {"key": "rank-1", "rank": 1, "pid": 7, "silent": 1.0, "cpu": 1.0, "bytes": 3, "last": "x"}]}, "end": 9},
    {"journal": {**EVENT, "event": "LeaseExpired", "silent": 9.0}, "end": 9},
    {"op": "start", "run": "run-1", "stage": "run", "attempt": 0, "path": ["/bin"], "processes": [
        {"key": "rank-1", "argv": ["x"], "env": {"A": "b"}, "cwd": "/", "rank": 1}]},
    {"op": "stop", "run": "run-1", "grace": 1.0, "why": "by-user"},
    {"op": "rank-exited", "key": "rank-1", "rank": 1, "code": 0, "at": 1.0, "error": {}},
    {"op": "follow", "run": "run-1", "journal": 0, "logs": {}},
    {"op": "outputs", "run": "run-1", "paths": ["out"]},
    {"ack": 5},
    {"ok": True, "ip": "10.0.0.1", "local": "10.0.0.2", "interface": "eth0"},
    {"port": 29500, "more": [29501], "news": None},
    {"have": False, "base": "ab12", "folder": "/root/.launcher/host/code/x"},
    {"outputs": [["a/b", 3, 4]], "code": [], "folder": "/x", "logs": {"attempt-0/rank-1.out": 3}},
    {"left": [{"pid": 3, "command": "x"}], "killed": 1, "scanned": 9, "unreadable": 0},
    {"alive": True, "expiry": {"time": 1.0, "silent": 2.0}, "now": 3.0},
    {"runs": [{"run": "run-1", "alive": True, "started": True, "record": {}}], "going_on": []},
    {"hostname": "h", "root": "/r", "python": "/p", "python_version": "3.11.1", "cpus": 4, "memory": 1,
     "addresses": [["eth0", "10.0.0.1"]], "gpus": [{"index": 0, "name": "x", "uuid": "u", "memory": 1}],
     "leased": {"0": {"user": "u", "since": 1.0}}, "time": 1.0, "ssh_address": "10.0.0.1"},
    json.loads(json.dumps({"version": 1, "run": "run-1", "started": 1.0, "job": {"run": ["x"]},
                           "inventory": {"hosts": [{"name": "h0"}]}, "hosts": ["h0"], "nodes": []})),
)  # fmt: skip
#: What hostile bytes are made of.
WORDS: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 64, 10**400, 1e300, float("inf"), float("nan"), "", "x" * 300, "../..",
    "\x1b]0;x\x07", "$(id)", "\u202e", "\ud800", [], {}, [[]], {"": None}, "RunEnded", "NodeReplaced",
    "HostSwept", "rank-0", "attempt-9/rank-0.out", "attempt-0/../x.out",
)  # fmt: skip
ANSWERS = [f"{answers.__name__}.{one.name}" for one in pkgutil.iter_modules(answers.__path__)]
KINDS = tuple(
    kind
    for module in map(import_module, ANSWERS)
    for kind in vars(module).values()
    if isinstance(kind, type) and hasattr(kind, "__dataclass_fields__") and kind.__module__ == module.__name__
)  # fmt: skip
#: Requests that a relay answers by reading alone; the others would change this machine.
READING = frozenset(("alive", "contact", "outputs", "follow", "runs", "clock"))


def _lines(data: bytes) -> list[Any]:
    found = []
    for line in data.split(b"\n"):
        try:
            found.append(lean.loads(line.decode("utf-8")))
        except (ValueError, RecursionError):
            continue
    return found


def decoders(data: bytes) -> None:
    """Both decoders: messages, or ValueError."""
    for forgiving in (False, True):
        decoder = protocol.Decoder(forgiving)
        try:
            for start in range(0, len(data), 1000):
                decoder.feed(data[start : start + 1000])
        except ValueError:
            assert not forgiving


async def _agent(data: bytes) -> None:
    agent = Agent(Host("h1"), None)
    agent._follows = True
    asked = asyncio.get_running_loop().create_future()
    agent._asked[1] = asked
    state, own = RunState(), Belongings("h1", Job(run=("x",)))
    own.place(0, LAYOUT, {})

    def hear(record: dict[str, Any], end: int) -> None:
        nonlocal state
        event = ev.from_journal("h1", record, 0.0, 1.0)
        if event is None:
            return
        if isinstance(event, ev.RecordPassedOver) or own.wrong_event(event):
            raise BadAnswer("h1", "no")
        assert isinstance(event, ev.JOURNALED)
        assert getattr(event, "host", "h1") == "h1"
        state = step(state, event)
        json.dumps(ev.encode(event), allow_nan=False)
        time.localtime(event.time)

    def take(name: str, offset: int, piece: bytes) -> bool:
        if own.wrong_log(name):
            raise BadAnswer("h1", "no")
        assert name.startswith("attempt-0/")
        return True

    agent.on_journal, agent.on_log = hear, take
    well = agent._take(data)
    assert well == (agent.fault is None)
    if asked.done():
        asked.exception()


def agent_client(data: bytes) -> None:
    """What a host sends: taken, or a fault of the host. Nothing is ever raised."""
    asyncio.run(_agent(data))


def typed_answers(data: bytes) -> None:
    """What a host answers: a value, or BadAnswer."""
    for value in _lines(data):
        for kind in KINDS:
            try:
                read(kind, "h1", "op", value)
            except BadAnswer:
                continue
        if isinstance(value, dict):
            try:
                read_facts("h1", "probe", value, 0.0)
            except BadAnswer:
                continue


def records(data: bytes) -> None:
    """What a host holds of a run: a request, or UnreadableRecord."""
    for value in _lines(data):
        try:
            codec.read_run(value)
        except UnreadableRecord:
            continue


def supervisor_requests(data: bytes) -> None:
    """What a program of the same user sends to a supervisor: an operation, or Refused."""
    for message, _ in protocol.Decoder(forgiving=True).feed(data):
        try:
            requests.checked(message)
        except requests.Refused:
            continue


def relay_requests(data: bytes) -> None:
    """What a launcher sends to a relay: every message is answered."""
    with tempfile.TemporaryDirectory() as root:
        relay = relays.Relay(root)
        relay._say = lambda message, payload=b"": None  # type: ignore[method-assign]
        for message, _ in protocol.Decoder(forgiving=True).feed(data):
            operation = message.get("op")
            if hasattr(relay, f"do_{operation}") and operation not in READING:
                continue
            answer = relay._answer(message)
            assert {"ok", "error"} & set(answer)
        if relay.follow:
            relay.follow = None


def screen(data: bytes) -> None:
    """What reaches a terminal: no control character but colours."""
    for text in (
        harmless(data.decode("utf-8", "replace")),
        log_lines.readable(data.replace(b"\n", b" ") + b"\n").decode(),
    ):
        for piece in text.split("\x1b[")[1:]:
            assert piece.lstrip("0123456789;:").startswith("m")
        left = text.replace("\x1b[", "").replace("\n", "").replace("\t", "")
        assert not any(
            ord(c) < 32 or 127 <= ord(c) < 160 or 0x202A <= ord(c) <= 0x202E for c in left
        )


TARGETS: tuple[Callable[[bytes], None], ...] = (
    decoders, agent_client, typed_answers, records, supervisor_requests, relay_requests, screen,
)  # fmt: skip


def mutated(rng: random.Random) -> bytes:
    """Return some messages of the corpus, broken in a few places."""
    lines = []
    for _ in range(rng.randint(1, 3)):
        message = json.loads(json.dumps(rng.choice(CORPUS)))
        for _ in range(rng.randint(0, 3)):
            message = _replaced(message, rng)
        line = json.dumps(message).encode("ascii", "replace")
        lines.append(line + b"\n" + b"abc" * ("size" in line.decode()))
    data = bytearray(b"".join(lines))
    for _ in range(rng.choice((0, 0, 0, 1, 2, 8))):
        place = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data[place:place] = rng.choice(
                    (b"[" * 2000, b"{", b'"', b"\n", b"\xff", b"\0", b",", b"9" * 400)
                )
            case 1:
                del data[place : place + rng.randint(1, 20)]
            case 2 if place < len(data):
                data[place] ^= 1 << rng.randrange(8)
            case _:
                data[place:place] = data[place : place + rng.randint(1, 40)]
    return bytes(data)


def _replaced(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one of its parts replaced, left out or doubled."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        name = rng.choice(list(value))
        if rng.random() < 0.1:
            return {key: one for key, one in value.items() if key != name}
        return {**value, name: _replaced(value[name], rng)}
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], _replaced(value[place], rng), *value[place + rng.randint(0, 1) :]]
    return rng.choice(WORDS)


def attack(data: bytes) -> None:
    """Throw an input at all targets; an error names the one that failed."""
    for target in TARGETS:
        try:
            target(data)
        except Exception as error:
            error.add_note(f"target {target.__name__}, input {data!r}")
            raise


def session(seconds: float, seed: int) -> int:
    """Attack for a while; return how many inputs were thrown. Raises what a target raised."""
    rng, count, deadline = random.Random(seed), 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        attack(mutated(rng))
        count += 1
    return count


def main() -> int:
    """Run one session; return 0 where nothing was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.seconds:.0f} s", flush=True)
    try:
        count = session(given.seconds, given.seed)
    except Exception:
        traceback.print_exc()
        Path("build").mkdir(exist_ok=True)
        Path("build/fuzz.txt").write_text(traceback.format_exc())
        print(f"found: build/fuzz.txt; again with --seed {given.seed}")
        return 1
    print(f"{count} inputs at {len(TARGETS)} targets: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
