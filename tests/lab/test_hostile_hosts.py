"""A host that sends what it likes: it loses its own place in a run, and harms nothing else."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from support import hostile
from support import lab as labs
from support.command import Launcher, at_a_terminal, of_runs

#: Rank 1, of the hostile host, prints once rank 0 has: its first words may end the run.
MEETS = """
import os, socket, time
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if os.environ["RANK"] == "0":
    print("mine", flush=True)
    listener = socket.create_server(place)
else:
    while True:
        try:
            socket.create_connection(place).close()
            break
        except OSError:
            time.sleep(0.05)
    print("mine", flush=True)
time.sleep(300)
"""
JOB = ("--nodes=2", "--framework=torch", "--no-check", "--", "python3", "-c", MEETS)


def _journal(event: str, **fields: Any) -> dict[str, Any]:
    record = {"event": event, "attempt": 0, "seq": 900, "time": time.time(), **fields}
    return {"journal": record, "end": 1}


def _started(**fields: Any) -> dict[str, Any]:
    return _journal("ProcessStarted", **{"key": "rank-1", "rank": 1, "pid": 9, **fields})


def _exited(**fields: Any) -> dict[str, Any]:
    return _journal("ProcessExited", **{"key": "rank-1", "rank": 1, "code": 0, **fields})


#: What a hostile host says once the run is followed there.
FORGED: dict[str, Any] = {
    "mixed types": _started(lead="x", leads=3),
    "a key that is a number": _exited(key=5, rank="a"),
    "an error that is a number": _exited(error=7),
    "silent for a word": _journal("LeaseExpired", silent="x"),
    "a time beyond all": _journal("OrphanTimeoutExpired", silent=1.0, time=1e300),
    "an attempt to come": _exited(attempt=7),
    "another host's rank": _exited(key="rank-0", rank=0, code=1),
    "the end of the run": _journal("RunEnded", status="succeeded", reason="all-ranks-exited-0"),
    "a replacement": _journal("NodeReplaced", by="x", node_rank=0, reason="evil"),
    "a restart": _journal("RunRestarted", attempt=7, reason="evil"),
    "another host's log": {"log": "attempt-0/rank-0.out", "offset": 0, "size": 5},
    "a log elsewhere": {"log": "../../x", "offset": 0, "size": 5},
    "a log of a long name": {"log": "attempt-0/" + "x" * 300 + ".out", "offset": 0, "size": 5},
    "a log that is a number": {"log": 1},
    "a gap in a log": {"log": "attempt-0/rank-1.err", "offset": 1 << 40, "size": 5},
    "a payload without end": {"log": "attempt-0/rank-1.out", "offset": 0, "size": 10**12},
    "a number for a record": {"journal": 5},
    "a number for sizes": {"idle": 5},
    "an id that is a list": {"id": [1]},
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_message_ends_the_run_on_all_hosts(
    own: labs.Lab, launcher: Launcher, forged: str
) -> None:
    """In seconds, with a receipt that names the host; and the records stay readable."""
    hostile.inventory(own, launcher.inventory)
    message = FORGED[forged]
    hostile.say(own.hosts["lab2"], message, payload=b"x" * 5 if message.get("size") == 5 else b"")
    ran = launcher.run(*JOB, timeout=60)
    assert (ran.code, ran.receipt["status"], ran.receipt["reason"]) == (125, "lost", "bad-answer")
    assert ran.receipt["reason_host"] == "lab2"
    assert "error: lab2: it sent what no agent sends" in ran.err
    lab1, lab2 = ran.receipt["hosts"]
    assert (lab1["left"], lab1["problem"], lab2["problem"]) == (0, "", "bad-answer")
    assert ran.receipt["stages"].get("run", 0.0) < 100, "ranks would sleep for 300 s"
    assert not of_runs(own.hosts["lab1"])
    assert ran.log("rank-0.out") == b"mine\n"
    listed = json.loads(launcher.call("ls", "--json").stdout)
    assert [run["status"] for run in listed] == ["lost"]
    assert launcher.call("show", "-").returncode == 0


#: Requests, and answers that no agent gives.
ANSWERS: dict[str, tuple[str, Any]] = {
    "no facts": ("probe", {}),
    "no list of addresses": ("probe", None),
    "an address that is shell": (
        "connect", {"192.0.2.1": {"ok": True, "ip": "192.0.2.1", "local": "$(id > /root/PWNED)"}},
    ),
    "a snapshot without words": ("snapshot", {"have": "no"}),
    "outputs elsewhere": ("outputs", {"outputs": [["../x", 1, 1]], "code": [], "folder": "/", "logs": {}}),
}  # fmt: skip


@pytest.mark.parametrize("case", ["no facts", "no list of addresses", "a snapshot without words"])
def test_an_answer_that_no_agent_gives_is_an_error_of_its_host(
    own: labs.Lab, launcher: Launcher, case: str
) -> None:
    """Before anything was started: told at once."""
    hostile.inventory(own, launcher.inventory)
    hostile.answer(own.hosts["lab2"], *ANSWERS[case])
    ran = launcher.run(*JOB, timeout=60)
    assert (ran.code, ran.receipt["reason"], ran.receipt["reason_host"]) == (
        125, "bad-answer", "lab2",
    )  # fmt: skip
    assert ran.receipt["seconds"] < 10
    assert not of_runs(own.hosts["lab1"])


def test_an_address_that_is_shell_runs_nowhere(own: labs.Lab, launcher: Launcher) -> None:
    """What a host calls its address goes into the commands of the others."""
    hostile.inventory(own, launcher.inventory)
    hostile.corrupt(own.hosts["lab2"], """\
honest = relay.Relay.do_connect
def do_connect(self, request):
    found = honest(self, request)
    for tried in found.values():
        tried["local"] = "$(id > /root/PWNED)"
    return found
relay.Relay.do_connect = do_connect
""")  # fmt: skip
    ran = launcher.run("--nodes=2", "--framework=env", "echo peer is {{host:node.1}}", timeout=60)
    assert (ran.code, ran.receipt["reason"], ran.receipt["reason_host"]) == (
        125, "bad-answer", "lab2",
    )  # fmt: skip
    assert own.hosts["lab1"].run("test", "-e", "/root/PWNED", check=False).returncode == 1


def test_outputs_that_lead_elsewhere_cost_the_others_nothing(
    own: labs.Lab, launcher: Launcher
) -> None:
    hostile.inventory(own, launcher.inventory)
    hostile.answer(own.hosts["lab2"], *ANSWERS["outputs elsewhere"])
    writes = 'echo 1 > "$LAUNCHER_OUTPUT_DIR/$RANK"'
    ran = launcher.run("--nodes=2", "--framework=env", "--", "sh", "-c", writes, timeout=60)
    assert ran.code == 74, ran.err
    assert "leads elsewhere" in ran.receipt["outputs_failed"]["lab2"]
    assert [path.name for path in (ran.folder / "outputs").iterdir()] == ["0"]


#: Outputs that a host lists.
LISTED: dict[str, tuple[object, str]] = {
    "files that it has not": ([["a", 1, 1], ["b/c", 1, 1]], "it did not send 2 of the files"),
    "a size that is no number of ours": ([["a", 1 << 63, 1]], "is negative or endless"),
    "a name that no file has": ([["a\ud800", 1, 1]], "cannot be a file here"),
    "a name that is too long": ([["n" * 300, 1, 1]], "File name too long"),
}


@pytest.mark.parametrize("case", LISTED)
def test_outputs_that_do_not_come_are_missed(own: labs.Lab, launcher: Launcher, case: str) -> None:
    """Its rsync says nothing of them, or a word that helps nobody."""
    hostile.inventory(own, launcher.inventory)
    listed, why = LISTED[case]
    hostile.corrupt(own.hosts["lab2"], f"""\
honest = relay.Relay.do_outputs
relay.Relay.do_outputs = lambda self, request: dict(honest(self, request), outputs={listed!r})
""")  # fmt: skip
    ran = launcher.run("--nodes=2", "--framework=env", "--", "true", timeout=60)
    assert ran.code == 74, ran.err
    assert why in ran.receipt["outputs_failed"]["lab2"], ran.err
    assert ran.receipt["outputs_complete"] is False


def test_no_text_of_a_host_controls_the_terminal(own: labs.Lab, launcher: Launcher) -> None:
    """Neither a refusal nor the name of an output that two hosts wrote differently."""
    hostile.inventory(own, launcher.inventory)
    hostile.corrupt(own.hosts["lab2"], "")
    run = (
        "run",
        "-i",
        str(launcher.inventory),
        "--nodes=2",
        "--framework=torch",
        "--no-check",
        "--",
    )
    writes = 'echo "$RANK" > "$LAUNCHER_OUTPUT_DIR/$(printf "a\\033]0;PWN\\007b")"'
    code, seen = at_a_terminal(launcher, *run, "sh", "-c", writes)
    assert code == 0, seen
    assert "a␛]0;PWN␇b@lab1".encode() in seen
    shown = at_a_terminal(launcher, "show", "-")[1]
    hostile.corrupt(own.hosts["lab2"], """\
def do_probe(self, request):
    raise relay.Refused("no", "\\x1b]0;PWN\\x07 \\x9b2J \\u202egpj")
relay.Relay.do_probe = do_probe
""")  # fmt: skip
    code, refused = at_a_terminal(launcher, *run, "true")
    assert code == 125, refused
    assert "␛]0;PWN␇ ␛2J <U+202E>gpj".encode() in refused
    assert not [text for text in (seen, shown, refused) if b"\x1b]0" in text]
