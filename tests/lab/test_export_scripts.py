"""Jobs as plain scripts and as batch files: what they quote, refuse and leave out, and that they run."""

from __future__ import annotations

import os
import signal
import subprocess

from support import lab as labs
from support.command import Launcher
from support.scripts import TRAIN


def exported(launcher: Launcher, clean: labs.Lab, job: str) -> list[str]:
    """The command of the script that runs a job on two hosts."""
    launcher.script(job, "job.yaml")
    master = clean.hosts["lab1"].address
    place = ["-i", str(launcher.inventory), "--hosts", "lab[1-2]", "--master-addr", master]
    done = launcher.call("export", "script", "job.yaml", *place, "-o", "to go")
    assert done.returncode == 0, done.stdout + done.stderr
    return ["sh", str(launcher.work / "to go" / "run.sh")]


def nobody_left(clean: labs.Lab) -> bool:
    return not [
        process
        for name in ("lab1", "lab2")
        for process in clean.hosts[name].processes()
        if "LAUNCHER_MARK" in process.environ
    ]


def test_a_script_trains_over_plain_ssh(clean: labs.Lab, launcher: Launcher) -> None:
    launcher.script(TRAIN)
    job = "framework: torch\nnum_nodes: 2\nsecrets: [TOKEN]\nrun: [train.py, \"a 'b\", '$HOME']\n"
    command = exported(launcher, clean, job)
    token = 'it\'s $a\n"secret"'
    text = "".join(path.read_text() for path in (launcher.work / "to go").iterdir())
    assert 'secret"' not in text
    bare = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert bare.returncode == 2
    assert "TOKEN: must be set in the environment" in bare.stderr
    env = {**os.environ, "TOKEN": token}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env=env
    )
    assert done.returncode == 0, done.stdout + done.stderr
    said = sorted(line for line in done.stdout.splitlines() if "learned" in line)
    rest = f"""learned True ["a 'b", '$HOME'] {[token]}"""
    assert said == [f"rank-{n}: of 2 on lab{n + 1} {rest}" for n in (0, 1)]
    assert nobody_left(clean)
    folder = clean.hosts["lab2"].run(
        "stat", "-c", "%a", "/root/.launcher/host/exported/lab2/runs/job"
    )
    assert folder.stdout == b"700\n", "others can read code and outputs"


FAILS = """\
framework: env
num_nodes: 2
grace: 1
run: |
  trap '' TERM
  touch $LAUNCHER_RUN_DIR/started
  test $RANK = 0 && exec sleep 1000
  exit 7
"""


def test_a_script_stops_all_when_one_fails(clean: labs.Lab, launcher: Launcher) -> None:
    done = subprocess.run(
        exported(launcher, clean, FAILS), capture_output=True, text=True, check=False, timeout=180
    )
    assert done.returncode == 7
    assert "lab2 exited with 7: stopping all others" in done.stderr
    assert nobody_left(clean)


def test_a_killed_script_leaves_nothing(clean: labs.Lab, launcher: Launcher) -> None:
    job = FAILS.replace("exit 7", "exec sleep 1000").replace("env\n", "env\nname: killed\n")
    running = subprocess.Popen(exported(launcher, clean, job), start_new_session=True)
    started = "/root/.launcher/host/exported/{}/runs/killed/started"
    hosts = [clean.hosts[name] for name in ("lab1", "lab2")]
    labs.wait_until(
        lambda: all(host.exists(started.format(host.name)) for host in hosts),
        "all have started",
        40,
    )
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    labs.wait_until(lambda: nobody_left(clean), "nobody is left", 20)


def test_files_are_not_overwritten(launcher: Launcher) -> None:
    launcher.script("", "train.py")
    words = ("export", "slurm", "train.py", "-o", "job.sbatch")
    assert launcher.call(*words).returncode == 0
    again = launcher.call(*words)
    assert (again.returncode, "exists" in again.stderr) == (2, True)
