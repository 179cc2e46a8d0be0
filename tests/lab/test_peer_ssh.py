"""Hosts of a run reach each other by `ssh HOST COMMAND`, through the agents, without any key."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.base import frames
from launcher.spec.model import Job
from launcher.transport import certificates
from support import lab as labs
from support.command import Launcher, wait_for

RUN = ("--nodes", "2", "--framework", "ssh", "--grace", "1s")

# Runs on the first host alone. Every case is one `ssh`, and an assertion on what comes back.
CASES = r"""
import hashlib, os, pathlib, signal, subprocess, sys, time

def ssh(*words, **more):
    return subprocess.run(["ssh", *words], capture_output=True, timeout=90, **more)

def says(*words):
    done = ssh(*words)
    assert done.returncode == 0, done
    return done.stdout.decode()

assert os.environ["HOSTS"] == "lab1 lab2"
for host in ("lab1", "lab2"):  # the own one, too
    assert says(host, "hostname; echo $LAUNCHER_HOST") == f"{host}\n{host}\n"
assert ssh("lab2", "exit 7").returncode == 7
assert ssh("lab2", "kill -9 $$").returncode == 137
assert ssh("lab2", "no-such-program").returncode == 127
options = ["-o", "BatchMode=yes", "-oX=y", "-n", "-l", "root", "-p", "22"]
assert says(*options, "me@lab2", "-p", "23", "echo", "a  b") == "a b\n"
quoted = "cd / > /dev/null 2>&1 ; env A='it'\"'\"'s \"$HOME\"' B=\\$x sh -c 'echo \"$A|$B|$PWD\"'"
assert says("lab2", quoted) == "it's \"$HOME\"|$x|/\n"

big = os.urandom(3_000_000)
done = ssh("lab2", "cat; echo done >&2", input=big)
assert done.stdout == big and done.stderr == b"done\n", (len(done.stdout), done.stderr, done.returncode)
done = ssh("lab2", "head -c 5", input=big)
assert done.stdout == big[:5], "input that nobody reads holds nothing up"

mark = "a-word-of-the-command"
seen = says("lab2", f"true {mark}; cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
assert "sh /proc/self/fd/3" in seen and mark not in seen

done = ssh("lab9", "true")
assert done.returncode == 255 and b"lab9 is not a host of this run (lab1, lab2)" in done.stderr

# Who asks is gone, politely or not: what runs for it is ended, also when it is deaf.
deaf = "trap '' TERM; echo $$; exec 1>&-; while :; do sleep 0.1; done"
for number in (signal.SIGTERM, signal.SIGKILL):
    asks = subprocess.Popen(["ssh", "lab2", deaf], stdout=subprocess.PIPE)
    pid = int(asks.stdout.readline())
    asks.send_signal(number)
    asks.wait()
    deadline = time.monotonic() + 180
    while ssh("lab2", f"kill -0 {pid}").returncode == 0:
        assert time.monotonic() < deadline, "the command outlived the one that asked for it"

# One that does not read what it asked for, and is a long time about it.
slow = subprocess.Popen(["ssh", "lab2", "head -c 5000000 /dev/zero; echo end >&2"],
                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
assert ssh("lab2", "true").returncode == 0, "others are not held up by it"
out, err = slow.communicate(timeout=180)
assert (len(out), err, slow.returncode) == (5_000_000, b"end\n", 0), (len(out), err)
print("all cases")
"""


def test_what_a_framework_may_expect_of_ssh(launcher: Launcher, clean: labs.Lab) -> None:
    ran = launcher.run(*RUN, "python", launcher.script(CASES))
    assert ran.code == 0, ran.out + ran.err
    assert ran.log("node-0.out") == b"all cases\n"
    assert [host["orphans"] for host in ran.receipt["hosts"]] == [0, 0]
    for name in ("lab1", "lab2"):
        left = clean.hosts[name].run("find", "/root/.launcher/host/runs", "-name", "peer.json*")
        assert left.stdout == b"", "the key is gone"


def _waiting(launcher: Launcher, script: str) -> tuple[subprocess.Popen[bytes], Path]:
    """A run that goes on for ever, once its first host has said "ready"."""
    process = launcher.start(*RUN, script)
    labs.wait_until(lambda: any(launcher.home.glob("runs/*/logs/*/node-0.out")), "a log", 30)
    (folder,) = (launcher.home / "runs").iterdir()
    wait_for(folder / "logs/attempt-0/node-0.out", b"ready", process)
    return process, folder


def _ended(process: subprocess.Popen[bytes], folder: Path) -> dict[str, Any]:
    try:
        process.communicate(timeout=40)
    finally:
        process.kill()
        process.communicate()
    value: dict[str, Any] = json.loads((folder / "receipt.json").read_text())
    return value


SLEEPS = "ssh lab2 'echo ready; sleep 600'"


def _spoken_to(where: tuple[str, int], certificate: Path | None) -> bytes:
    """What the head says to a caller that asks for the control connection, with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate:
        context.load_cert_chain(certificate)
    with socket.create_connection(where, 10) as plain:
        try:
            with context.wrap_socket(plain) as line:
                line.sendall(frames.frame(frames.ASK, {"control": True}))
                return line.recv(64)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_a_stranger_is_refused(launcher: Launcher, clean: labs.Lab) -> None:
    """Another run's certificate with the same names, none at all, and no TLS; the run goes on."""
    for host in clean.hosts.values():
        host.run("rm", "-f", "/tmp/go")
    process, folder = _waiting(launcher, f"{SLEEPS} & until [ -e /tmp/go ]; do sleep 0.1; done")
    plan = json.loads((folder / "plan.json").read_text())
    where = (clean.hosts["lab1"].address, plan["master_port"])
    other = certificates.introduce(["lab1", "lab2"], Job(run=("x",)))["lab2"]
    file = folder / "other.pem"
    file.write_text(other["certificate"] + other["key"])
    assert _spoken_to(where, file) == b""
    assert _spoken_to(where, None) == b""
    with socket.create_connection(where, 10) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert not plain.recv(64).startswith(b"j")
    clean.hosts["lab1"].write("/tmp/go", b"")
    receipt = _ended(process, folder)
    assert receipt["status"] == "succeeded", receipt
    assert [host["left"] for host in receipt["hosts"]] == [0, 0]


def _gone(lab: labs.Lab) -> bool:
    hosts = [lab.hosts[name].processes() for name in ("lab1", "lab2")]
    return not any("LAUNCHER_RUN_ID" in p.environ for host in hosts for p in host)


@pytest.mark.parametrize(("host", "word"), [("lab1", "head"), ("lab2", "peer")])
def test_an_agent_is_killed(launcher: Launcher, clean: labs.Lab, host: str, word: str) -> None:
    """What it led or ran is ended on both hosts, without a launcher; who takes the run up then is
    told who failed."""
    process, folder = _waiting(launcher, SLEEPS)
    process.kill()
    process.communicate()
    (agent,) = (
        p.pid for p in clean.hosts[host].processes() if "start.py" in str(p.argv) and word in p.argv
    )
    clean.hosts[host].run("kill", "-9", str(agent))
    labs.wait_until(lambda: _gone(clean), "the end of everything")
    assert launcher.call("attach", "-").returncode == 137
    receipt = json.loads((folder / "receipt.json").read_text())
    assert (receipt["failure"]["host"], receipt["reason"]) == (host, "signal-SIGKILL")
    assert [h["left"] for h in receipt["hosts"]] == [0, 0]


def test_all_lines_of_the_launcher_are_cut(launcher: Launcher, clean: labs.Lab) -> None:
    """The launcher is killed and every SSH session with it: what runs by `ssh` goes on to its end."""
    for host in clean.hosts.values():
        host.run("rm", "-f", "/tmp/go")
    process, folder = _waiting(
        launcher,
        "ssh lab2 'echo ready; until [ -e /tmp/go ]; do sleep 0.1; done; echo went on; exit 3'",
    )
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    for name in ("lab1", "lab2"):
        clean.hosts[name].kill_sshd_sessions()
    clean.hosts["lab2"].write("/tmp/go", b"")

    labs.wait_until(lambda: _gone(clean), "the end without a launcher", 20)
    attached = launcher.call("attach", "-")
    assert attached.returncode == 3, attached.stderr
    assert (folder / "logs/attempt-0/node-0.out").read_bytes() == b"ready\nwent on\n"
