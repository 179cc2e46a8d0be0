"""Roles on real hosts: how they end, what their exit codes mean, and what holds them."""

from __future__ import annotations

import json
from typing import Any

from support import lab as labs
from support.command import Launcher, Ran


def run_roles(launcher: Launcher, roles: str, script: str, *flags: str) -> Ran:
    launcher.script(script)
    text = f"framework: torch\nrun: train.py\ngrace: 2\nroles:\n{roles}"
    (launcher.work / "job.yaml").write_text(text)
    return launcher.run(*flags, "job.yaml")


#: The chief ends, worker 1 dies of that, and parameter servers never end, nor by SIGTERM.
LED = """
import os, signal, socket, sys, time
role, index = os.environ["LAUNCHER_ROLE"], os.environ["LAUNCHER_INDEX"]
print("here is", role, index, flush=True)
meeting = (os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))
def meet():
    while True:
        try:
            talk = socket.create_connection(meeting)
            break
        except OSError:
            time.sleep(0.05)
    talk.sendall(b"x")
    return talk
if role == "ps":
    if index == "1":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        talk = meet()
    time.sleep(600)
if "CHIEF" in os.environ:
    sys.exit(int(os.environ["CHIEF"]))
if role == "chief":
    with socket.create_server(("0.0.0.0", meeting[1])) as server:
        talks = [server.accept()[0] for _ in range(2)]  # worker 0, and the deaf one
        for talk in talks:
            talk.recv(1)
    sys.exit(0)  # the interpreter closes its sockets a moment before it has ended
talk = meet()
talk.recv(1)
sys.exit(5)
"""


def test_the_lead_ends_the_run_with_its_status(launcher: Launcher, clean: labs.Lab) -> None:
    ran = run_roles(
        launcher, "  chief: {primary: true}\n  worker: {}\n  ps: {replicas: 2, spread: true}\n", LED
    )
    assert ran.code == 0, ran.err
    receipt = ran.receipt
    assert (receipt["status"], receipt["reason"]) == ("succeeded", "primary-exited-0")
    assert receipt["failure"] is None, "who dies because the primary role has gone has not failed"
    codes = {key: code for host in receipt["hosts"] for key, code in host["exit_codes"].items()}
    assert codes["chief-0"] == 0
    assert (codes["ps-0"], codes["ps-1"]) == (-15, -9)
    assert len(receipt["hosts"]) == 2
    assert b"here is ps 1" in ran.log("ps-1.out")
    assert "lab1 chief-0 │ here is chief 0" in ran.out
    assert "chief-0 worker-0 ps-0" in ran.err
    assert all(host["left"] == 0 for host in receipt["hosts"])


def test_a_lead_that_fails_fails_the_run(launcher: Launcher, clean: labs.Lab) -> None:
    roles = "  chief: {primary: true, envs: {CHIEF: 7}}\n  worker: {}\n  ps: {spread: true}\n"
    ran = run_roles(launcher, roles, LED)
    assert ran.code == 7
    assert (ran.receipt["reason"], ran.receipt["failure"]["key"]) == ("exit-7", "chief-0")
    assert "first failure: lab1 chief-0 exited with 7" in ran.err


ALONE = """
import os, pathlib, sys, time
if os.environ["LAUNCHER_ROLE"] == "ps":
    time.sleep(600)
go = pathlib.Path("/tmp/go")
while not go.exists():
    time.sleep(0.02)
sys.exit(int(go.read_text() or "0"))
"""


def test_a_host_ends_the_others_of_its_lead_alone(launcher: Launcher, clean: labs.Lab) -> None:
    """Nobody is there to tell it: its launcher is dead."""
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/go")
    _without_a_launcher(launcher, "{chief: {primary: true}, ps: {replicas: 2}}")
    host.write("/tmp/go", b"")
    labs.wait_until(lambda: _alive(host) == 0, "the end of all", 15)
    done = launcher.call("attach", "-")
    assert done.returncode == 0, done.stderr
    assert "succeeded (primary-exited-0)" in done.stderr


def test_without_a_launcher_all_hosts_of_a_lead_end(launcher: Launcher, clean: labs.Lab) -> None:
    """They tell each other, at another port than that of the job."""
    one, two = clean.hosts["lab1"], clean.hosts["lab2"]
    one.run("rm", "-f", "/tmp/go")
    roles = "{chief: {primary: true}, ps: {replicas: 2, spread: true}}"
    _without_a_launcher(launcher, f"{roles}\nmaster_port: 29507")
    assert _alive(two) == 1
    one.write("/tmp/go", b"")
    labs.wait_until(lambda: _alive(one) + _alive(two) == 0, "the end on both hosts", 15)
    done = launcher.call("attach", "-")
    assert done.returncode == 0, done.stderr
    assert "succeeded (primary-exited-0)" in done.stderr


def test_without_a_launcher_a_failure_ends_all_hosts(launcher: Launcher, clean: labs.Lab) -> None:
    """Also those that speak to each other through a host whose own part has ended before; and whoever
    comes later is told."""
    hosts = one, two, three = [clean.hosts[name] for name in ("lab1", "lab2", "lab3")]
    for host in hosts:
        host.run("rm", "-f", "/tmp/go")
    _without_a_launcher(launcher, "{part: {replicas: 3, spread: true}}")
    assert [_alive(host) for host in hosts] == [1, 1, 1]
    one.write("/tmp/go", b"0")
    labs.wait_until(lambda: _alive(one) == 0, "the end of the first part", 15)
    assert [_alive(host) for host in hosts] == [0, 1, 1]
    two.write("/tmp/go", b"7")
    labs.wait_until(lambda: _alive(three) == 0, "the end on all hosts", 15)
    done = launcher.call("attach", "-")
    assert done.returncode == 7, done.stderr
    assert "first failure: lab2 part-1 exited with 7" in done.stderr
    ends = [e for e in _events(launcher) if e["event"] == "StopRequested" and e["host"] == "lab3"]
    assert [(e["why"], e["origin"]) for e in ends] == [("process-failed", "lab2")]


def _without_a_launcher(launcher: Launcher, roles: str) -> None:
    """All processes of a job with these roles, and nobody who follows them."""
    launcher.script(ALONE)
    (launcher.work / "job.yaml").write_text(f"framework: torch\nrun: train.py\nroles: {roles}\n")
    process = launcher.start("job.yaml")
    try:
        labs.wait_until(lambda: _all_started(launcher), "all processes", 30)
    finally:
        process.kill()
        process.communicate()


def _all_started(launcher: Launcher) -> bool:
    records = (launcher.home / "runs").glob("*/events.jsonl")
    return any(b'"AllStarted"' in record.read_bytes() for record in records)


def _events(launcher: Launcher) -> list[dict[str, Any]]:
    (record,) = (launcher.home / "runs").glob("*/events.jsonl")
    return [json.loads(line) for line in record.read_bytes().splitlines()]


def _alive(host: labs.Host) -> int:
    return sum(1 for p in host.processes() if "LAUNCHER_ROLE" in p.environ)


EXITS = """
import os, sys, time
role, attempt = os.environ["LAUNCHER_ROLE"], int(os.environ["LAUNCHER_ATTEMPT"])
if role == "odd":
    sys.exit(3)
if role == "flaky" and attempt < 2:
    sys.exit(12)
time.sleep(0.3)
if role == "last":
    sys.exit(int(os.environ["LAST"]))
"""


def test_exit_codes_mean_what_the_job_says(launcher: Launcher, clean: labs.Lab) -> None:
    """complete is a good end, restart starts all again, fail is the end."""
    roles = (
        "  odd: {on_exit: {complete: 3}}\n  flaky: {on_exit: {restart: 11-20}}\n"
        "  last: {envs: {LAST: '0'}, on_exit: {fail: 13, restart: 14}}\n"
    )
    ran = run_roles(launcher, roles, EXITS)
    assert ran.code == 0, ran.err
    assert "restarting after exit-12: attempt 2" in ran.err
    assert ran.receipt["hosts"][0]["exit_codes"] == {"odd-0": 3, "flaky-0": 0, "last-0": 0}


def test_fail_is_never_tried_again(launcher: Launcher, clean: labs.Lab) -> None:
    roles = "  last: {envs: {LAST: '13'}, on_exit: {fail: 13}}\n"
    ran = run_roles(launcher, roles, EXITS, "--max-restarts", "2")
    assert (ran.code, ran.receipt["reason"]) == (13, "exit-13")
    assert "restarting" not in ran.err


#: Who may have more waits until who may not has been stopped for it. Reserved is not held: each thread
#: has 8 MiB of address space for its stack.
LIMITS = """
import os, threading, time
print(len(os.sched_getaffinity(0)), os.environ["OMP_NUM_THREADS"], os.environ.get("SET_UP"))
print(open("set-up-" + os.environ["LAUNCHER_ROLE"]).read().strip(), flush=True)
for _ in range(60):
    threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
print("reserved", flush=True)
if os.environ["LAUNCHER_ROLE"] == "small":
    if os.fork():
        os.wait()
        time.sleep(600)
    while not os.path.exists("/tmp/hoarded"):
        time.sleep(0.02)
hoard = bytearray(400 << 20)
print("hoarded", flush=True)
open("/tmp/hoarded", "w")
time.sleep(600)
"""


def test_cores_and_memory_are_limits_and_setup_is_its_roles(
    launcher: Launcher, clean: labs.Lab
) -> None:
    roles = (
        "  small: {setup: echo small > set-up-small, resources: {cpus: 1, memory: 256MiB}}\n"
        "  large: {setup: echo large > set-up-large, resources: {cpus: 1, memory: 1GiB}}\n"
    )
    clean.hosts["lab1"].run("rm", "-f", "/tmp/hoarded")
    ran = run_roles(launcher, roles, LIMITS)
    assert ran.code == 137, ran.err
    assert ran.receipt["reason"] == "out-of-memory"
    assert "lab1 small-0 killed for exceeding its 256 MiB of memory" in ran.err
    assert ran.log("small-0.out").split()[:5] == b"1 1 None small reserved".split()
    assert ran.log("large-0.out").split() == b"1 1 None large reserved hoarded".split()
    (host,) = ran.receipt["hosts"]
    assert host["limits"]["small-0"].endswith("256 MiB (measured, each process)")
    assert "limits   small-0: cores" in ran.err


def test_more_memory_than_there_is(launcher: Launcher, clean: labs.Lab) -> None:
    ran = run_roles(launcher, "  huge: {resources: {memory: 900TiB}}\n", "")
    assert ran.code == 2
    assert "huge-0 (0 GPUs, 921600.0 GiB) fits on no host: lab1 has 0 GPUs" in ran.err
