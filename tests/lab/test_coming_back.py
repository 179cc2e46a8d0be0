"""A host that comes back changed: after a boot, or without its Python."""

from __future__ import annotations

import subprocess
from pathlib import Path

from support import lab as labs
from support.command import Launcher, Ran, of_runs

#: Writes an output, then waits for a file that says to end.
WAITS = """
import os, pathlib, time
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
(out / f"{os.environ['LAUNCHER_HOST']}.txt").write_text("written")
print("begun", flush=True)
while not pathlib.Path("/root/end").exists():
    time.sleep(0.05)
"""
PYTHON = "/root/own-python"


def _start(launcher: Launcher, *words: str) -> tuple[subprocess.Popen[bytes], Path]:
    """Start a run on two hosts; return it once the outputs and logs of both are here."""
    name = launcher.script(WAITS)
    words = ("--nodes", "2", "--framework", "torch", "--grace", "1s", *words)
    process = launcher.start("--pull-every", "0.2s", *words, name)
    wanted = [f".hosts/lab{n}/outputs/lab{n}.txt" for n in (1, 2)]
    said = [f"logs/attempt-0/rank-{n}.out" for n in (0, 1)]
    labs.wait_until(
        lambda: (
            process.poll() is not None
            or (
                all(any(launcher.home.glob(f"runs/*/{path}")) for path in wanted)
                and all(_says(launcher.home, path, b"begun\n") for path in said)
            )
        ),
        "the outputs and the lines of both hosts",
    )
    assert process.poll() is None, process.communicate()
    (folder,) = (launcher.home / "runs").iterdir()
    return process, folder


def _says(home: Path, path: str, text: bytes) -> bool:
    return any(file.read_bytes() == text for file in home.glob(f"runs/*/{path}"))


def _end(launcher: Launcher, process: subprocess.Popen[bytes]) -> Ran:
    out, err = process.communicate(timeout=90)
    return Ran(process.returncode, out.decode(), err.decode(), launcher.home)


def _happened(folder: Path, event: str) -> bool:
    return f'"event":"{event}"' in (folder / "events.jsonl").read_text()


def test_a_host_that_boots_again_is_lost(own: labs.Lab, launcher: Launcher) -> None:
    """Its processes are gone, restarts are for other hosts: what came before is here, and it is clean."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    process, folder = _start(launcher, "--max-restarts", "2")
    try:
        own.hosts["lab2"].power_cut()
        own.hosts["lab2"].boot()
        ran = _end(launcher, process)
    finally:
        process.kill()
        process.communicate()
    assert ran.code == 125, ran.err
    assert (ran.receipt["status"], ran.receipt["reason"]) == ("lost", "supervisor-died"), ran.err
    assert "lab2: lost (supervisor-died)" in ran.err
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, 0]
    assert not (folder / "logs" / "attempt-1").exists()
    assert (folder / "logs/attempt-0/rank-1.out").read_bytes() == b"begun\n"
    outputs = {path.name for path in (folder / "outputs").iterdir()}
    assert outputs == {"lab1.txt", "lab2.txt"}


def _without_python(own: labs.Lab, launcher: Launcher) -> labs.LabHost:
    for host in own.hosts.values():
        host.run("ln", "-s", "/usr/bin/python3", PYTHON)
    launcher.inventory.write_text(labs.inventory(own, PYTHON))
    return own.hosts["lab2"]


def test_a_host_whose_python_is_gone_for_a_while(own: labs.Lab, launcher: Launcher) -> None:
    """As during an upgrade: the run goes on there, and nothing is lost."""
    host = _without_python(own, launcher)
    process, folder = _start(launcher)
    try:
        host.run("mv", PYTHON, f"{PYTHON}.old")
        host.kill_sshd_sessions()
        labs.wait_until(lambda: _happened(folder, "ConnectionDropped"), "the drop", 60)
        host.run("mv", f"{PYTHON}.old", PYTHON)
        labs.wait_until(lambda: _happened(folder, "ConnectionResumed"), "the connection", 60)
        for each in own.hosts.values():
            each.run("touch", "/root/end")
        ran = _end(launcher, process)
    finally:
        process.kill()
        process.communicate()
    assert (ran.code, ran.receipt["reason"]) == (0, "all-ranks-exited-0"), ran.err


def test_a_host_whose_python_stays_away(own: labs.Lab, launcher: Launcher) -> None:
    """Why it was given up is told: it can be reached."""
    host = _without_python(own, launcher)
    process, _ = _start(launcher, "--lost-after", "8s")
    try:
        host.run("mv", PYTHON, f"{PYTHON}.old")
        host.kill_sshd_sessions()
        ran = _end(launcher, process)
    finally:
        process.kill()
        process.communicate()
    assert ran.code == 125, ran.err
    assert f"lab2: there is no {PYTHON}" in ran.err
    assert ran.receipt["reason"] == "host-unreachable"
    host.run("mv", f"{PYTHON}.old", PYTHON)
    assert launcher.run("--nodes", "2", "--framework", "env", "--", "true").code == 0
    labs.wait_until(lambda: not of_runs(host), "the end of what was left there")
