"""Ctrl-C at every stage, once and twice: nothing is left anywhere, and a receipt is printed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from support import journals
from support import lab as labs
from support.command import Launcher, of_runs, wait_for

SLEEPER = """
import os, pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "kept.txt").write_text("kept")
print("ready", flush=True)
time.sleep(600)
"""
STAGES = ["connect", "sync", "setup", "start", "run", "collect"]


def _stage_of(home: Path) -> str:
    """The last stage that the record of the only run tells."""
    for file in home.glob("runs/*/events.jsonl"):
        events = journals.lines(file.read_bytes())
        stages: list[str] = [one["stage"] for one in events if one["event"] == "StageStarted"]
        return stages[-1] if stages else ""
    return ""


def _interrupt_in(
    stage: str, process: subprocess.Popen[bytes], home: Path, times: int, ready: Path | None = None
) -> None:
    reached = STAGES[STAGES.index(stage) :]
    labs.wait_until(
        lambda: process.poll() is not None or _stage_of(home) in reached, f"stage {stage}", 40
    )
    if stage == "run":
        logs = "runs/*/logs/attempt-0/rank-*.out"
        labs.wait_until(
            lambda: sum(b"ready" in f.read_bytes() for f in home.glob(logs)) == 4,
            "the first lines of all ranks",
            40,
        )
    for _ in range(times):
        if process.poll() is None:
            os.kill(process.pid, signal.SIGINT)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("stage", STAGES)
def test_ctrl_c_leaves_nothing_and_prints_a_receipt(
    launcher: Launcher, clean: labs.Lab, stage: str, times: int
) -> None:
    """Whatever is under way is broken off; processes that ignore SIGTERM are killed."""
    text = SLEEPER if stage != "collect" else SLEEPER.replace("time.sleep(600)", "")
    name = launcher.script(text)
    (launcher.work / "data.bin").write_bytes(os.urandom(30_000_000))
    words = ["--setup", "sleep 300"] if stage == "setup" else []
    process = launcher.start(
        "--nodes=2",
        "--nproc-per-node=2",
        "--framework=torch",
        "--grace=1s",
        *words,
        name,
    )
    try:
        _interrupt_in(stage, process, launcher.home, times)
        _, err = process.communicate(timeout=40)
    finally:
        process.kill()
        process.communicate()
    said = err.decode()
    assert "record " in said, said
    (receipt_file,) = launcher.home.glob("runs/*/receipt.json")
    receipt = json.loads(receipt_file.read_text())
    if stage == "collect":
        assert process.returncode in (0, 74, 130)
    else:
        assert (process.returncode, receipt["status"], receipt["reason"]) == (
            130,
            "stopped",
            "by-user",
        )
    assert all(host["left"] == 0 for host in receipt["hosts"])
    if stage == "run" and times == 1:
        assert [o["path"] for o in receipt["outputs"]] == ["kept.txt"]


DEAF = """
import os, pathlib, signal, sys, time
deaf = pathlib.Path("/tmp/deaf")
if os.environ["RANK"] == "0":
    while not deaf.exists():
        time.sleep(0.05)
    sys.exit(7)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
deaf.touch()
time.sleep(600)
"""


SAVES = """
import pathlib, signal, sys, time
def save(*_):
    print("saved", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
while True:
    time.sleep(0.05)
"""


def test_a_run_that_saves_when_it_is_stopped_has_not_succeeded(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Whoever reads the receipt would take a model that is half trained for a whole one."""
    words = ("--nodes", "2", "--framework", "env", "--max-restarts", "2")
    process = launcher.start(*words, f"python3 {launcher.script(SAVES)}")
    labs.wait_until(lambda: len(list(launcher.home.glob("runs/*/logs/*/*.out"))) == 2, "logs", 40)
    for log in launcher.home.glob("runs/*/logs/*/*.out"):
        wait_for(log, b"ready", process)
    stopped = launcher.call("stop", "-", "--json")
    receipt = json.loads(stopped.stdout)
    assert (receipt["status"], receipt["reason"]) == ("stopped", "by-user"), stopped.stderr
    out, err = process.communicate(timeout=40)
    assert (process.returncode, b"saved" in out) == (130, True), err.decode()


def test_ctrl_c_while_a_run_starts_again_starts_nothing(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """It is the stop that ended the run, which would have gone on."""
    clean.hosts["lab1"].run("rm", "-f", "/tmp/deaf")
    process = launcher.start(
        "--nproc-per-node=2",
        "--framework=torch",
        "--grace=8s",  # for which the restart lasts
        "--max-restarts=5",
        launcher.script(DEAF),
    )
    try:
        labs.wait_until(lambda: _stage_of(launcher.home) == "restart", "a restart", 40)
        os.kill(process.pid, signal.SIGINT)
        _, err = process.communicate(timeout=40)
    finally:
        process.kill()
    assert process.returncode == 130, err.decode()
    (folder,) = launcher.home.glob("runs/*")
    assert not list(folder.glob("logs/attempt-1/*"))
    receipt = json.loads((folder / "receipt.json").read_text())
    assert (receipt["reason"], [host["left"] for host in receipt["hosts"]]) == ("by-user", [0])


def test_kill_9_of_the_launcher_and_a_closed_terminal_leave_the_run_going(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """The supervisor owns the processes; here they end by themselves a little later."""
    host = clean.hosts["lab1"]
    for number in (signal.SIGKILL, signal.SIGHUP):
        name = launcher.script(
            "import pathlib, time\nprint('ready', flush=True)\n"
            "while not pathlib.Path('/tmp/go').exists():\n    time.sleep(0.05)\n"
            "pathlib.Path('/tmp/done').touch()\n"
        )
        host.run("rm", "-f", "/tmp/go", "/tmp/done")
        launcher.home = launcher.home.with_name(f"home-{number}")
        process = launcher.start("--framework", "torch", name)
        _wait_for_run(launcher.home, process)
        os.kill(process.pid, number)
        process.communicate(timeout=20)
        host.write("/tmp/go", b"")
        labs.wait_until(lambda: host.exists("/tmp/done"), "the rank to go on", 20)
        labs.wait_until(lambda: not of_runs(host), "the supervisor to end by itself", 20)


def _wait_for_run(home: Path, process: subprocess.Popen[bytes]) -> None:
    def log_is_there() -> bool:
        assert process.poll() is None, process.communicate()
        return any(home.glob("runs/*/logs/*/rank-0.out"))

    labs.wait_until(log_is_there, "a log", 40)
    (log,) = home.glob("runs/*/logs/*/rank-0.out")
    wait_for(log, b"ready", process)


def test_ctrl_c_before_the_run_can_hear_it_leaves_no_folder_without_a_word(
    launcher: Launcher, lab: labs.Lab
) -> None:
    """A run that `ls` would show for ever, and that nobody follows."""
    process = launcher.start("--framework", "env", "sleep 600")
    labs.wait_until(lambda: any(launcher.home.glob("runs/*/launcher.lock")), "a folder", 30)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    for folder in (launcher.home / "runs").iterdir():
        assert (folder / "receipt.json").exists()


def _agents(host: labs.LabHost) -> list[int]:
    """Relays and supervisors: these are forks of those."""
    return [process.pid for process in host.processes() if "relay" in process.argv]


def test_a_killed_supervisor_takes_its_processes_along(launcher: Launcher, clean: labs.Lab) -> None:
    """And the run ends as lost, with nothing left."""
    name = launcher.script(SLEEPER)
    process = launcher.start("--nodes", "2", "--framework", "torch", "--grace", "1s", name)
    _wait_for_run(launcher.home, process)
    host = clean.hosts["lab1"]
    (file,) = launcher.home.glob("runs/*/events.jsonl")
    parents = [
        host.run("sh", "-c", f"cut -d' ' -f4 /proc/{p.pid}/stat").stdout.strip().decode()
        for p in host.processes()
        if "LAUNCHER_RUN_ID" in p.environ
    ]
    host.run("kill", "-9", parents[0])
    _, err = process.communicate(timeout=40)
    receipt = json.loads((file.parent / "receipt.json").read_text())
    assert (receipt["status"], receipt["reason"]) == ("lost", "supervisor-died"), err.decode()
    assert process.returncode == 125
    assert all(h["left"] == 0 for h in receipt["hosts"])


def test_a_dropped_connection_is_resumed_without_losing_a_byte(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """sshd's sessions are killed in the middle: the log here equals the one there."""
    name = launcher.script(
        "import pathlib, time\n"
        "for n in range(60):\n    print(n, 'x' * 1000, flush=True)\n    time.sleep(0.05)\n"
        "    while n == 40 and not pathlib.Path('/tmp/cut').exists():\n        time.sleep(0.05)\n"
    )
    for host in ("lab1", "lab2"):
        clean.hosts[host].run("rm", "-f", "/tmp/cut")
    process = launcher.start("--nodes", "2", "--framework", "torch", name)
    labs.wait_until(lambda: any(launcher.home.glob("runs/*/logs/*/rank-1.out")), "a log", 40)
    (log,) = launcher.home.glob("runs/*/logs/*/rank-1.out")
    wait_for(log, b"\n5 ", process)
    clean.hosts["lab2"].kill_sshd_sessions()
    for host in ("lab1", "lab2"):
        clean.hosts[host].write("/tmp/cut", b"")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err.decode()
    assert "the connection dropped" in err.decode()
    assert log.read_bytes() == b"".join(b"%d %s\n" % (n, b"x" * 1000) for n in range(60))


def test_what_a_killed_supervisor_left_is_ended_at_the_next_contact(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """By any run that comes there; a process of another live run stays."""
    host = clean.hosts["lab1"]
    name = launcher.script(
        "import subprocess, time\n"
        "subprocess.Popen(['setsid', '--fork', 'sleep', '611'])\n"
        "print('ready', flush=True)\ntime.sleep(600)\n"
    )
    process = launcher.start("--framework", "torch", "--grace", "1s", name)
    try:
        _wait_for_run(launcher.home, process)
        (rank,) = [p.pid for p in host.processes() if "RANK" in p.environ and "sleep" not in p.argv]
        stat = host.read(f"/proc/{rank}/stat").decode()
        supervisor = int(stat.rpartition(")")[2].split()[1])
        process.kill()
        process.communicate()
        # Its relay would see the supervisor die, and end what is left.
        labs.wait_until(lambda: _agents(host) == [supervisor], "the relay to go with the launcher")
        host.run("kill", "-9", str(supervisor))
        labs.wait_until(lambda: len(of_runs(host)) == 1, "the rank to go with its supervisor")
        other = launcher.run("--framework", "env", "true")
        assert other.code == 0, other.err
        assert "lab1: cleaned up 1 process left by earlier runs" in other.err
        assert not of_runs(host)
    finally:
        process.kill()
        process.communicate()
