"""One job with many values, on real hosts: each trial is a run, and nothing is lost or done twice."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import lab as labs
from support.command import Launcher, of_runs

SCRIPT = """
import argparse, os, pathlib, sys, time
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--wait", default="")
given = parser.parse_args()
print("accuracy:", 1 - given.lr, os.environ["LAUNCHER_PARAM_LR"])
if given.lr > 0.5:
    sys.exit("lr is too large")
while given.wait and not pathlib.Path(given.wait).exists():
    time.sleep(0.05)
"""
JOB = """
run: train.py
num_nodes: 1
framework: torch
matrix: {lr: [0.3, 0.2, 0.9]}
sweep: {metric: 'accuracy: ([0-9.]+)'}
"""


class Sweeps:
    """The sweeps of one user."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher
        launcher.script(SCRIPT)

    def argv(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "launcher", "sweep", *words]

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        argv = self.argv("-i", str(self.launcher.inventory), *words)
        pipe = subprocess.PIPE
        env = self.launcher.environment()
        return subprocess.Popen(
            argv,
            cwd=self.launcher.work,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
        )

    def known(self) -> dict[str, Any]:
        shown = self.launcher.call("sweep", "show", "-", "--json")
        assert shown.returncode == 0, shown.stderr
        found: dict[str, Any] = json.loads(shown.stdout)
        return found

    def statuses(self) -> dict[str, str]:
        """By the value of lr."""
        return {trial["params"]["lr"]: trial["status"] for trial in self.known()["results"]}

    def begins(self) -> dict[str, float]:
        """When each run began, by its name."""
        return {trial["run"]: trial["started"] for trial in self.known()["results"]}

    def begun(self) -> int:
        """How many runs have started all their processes."""
        places = self.launcher.home.glob("runs/*/events.jsonl")
        return sum('"AllStarted"' in place.read_text() for place in places)

    def runs(self) -> list[str]:
        return sorted(path.name for path in (self.launcher.home / "runs").iterdir())


@pytest.fixture
def sweeps(launcher: Launcher) -> Sweeps:
    return Sweeps(launcher)


def test_a_sweep_and_the_rest_of_it(clean: labs.Lab, launcher: Launcher, sweeps: Sweeps) -> None:
    """Each trial has the options of a run, of the file and of flags, also once it is resumed."""
    news = launcher.work / "news"
    (launcher.work / "job.yaml").write_text(JOB + "time: 1h\ntags: [nightly]\n")
    options = ("-e", "A=1", "-e", "B=two words", "--no-check", "--time", "2h")
    notify = f'echo "$LAUNCHER_TEXT" >> {shlex.quote(str(news))}'
    process = sweeps.start(*options, "--notify", notify, "job.yaml")
    out, err = process.communicate(timeout=90)
    assert process.returncode == 1, err
    table = [line.split() for line in out.decode().splitlines()]
    assert [row[:3] for row in table[:3]] == [
        ["lr", "value", "status"],
        ["0.2", "0.8", "succeeded"],
        ["0.3", "0.7", "succeeded"],
    ]
    assert b"lr is too large" in err
    found = sweeps.known()
    hosts = {host for trial in found["results"] for host in trial["hosts"]}
    assert len(hosts) > 1, "trials run beside each other"
    before = sweeps.runs()
    launcher.script(SCRIPT.replace("> 0.5", "> 5"))
    again = launcher.call("sweep", "resume", found["sweep"])
    assert again.returncode == 0, again.stderr
    assert "[3/3] succeeded  lr=0.9" in again.stderr
    assert sweeps.statuses() == dict.fromkeys(("0.2", "0.3", "0.9"), "succeeded")
    assert len(sweeps.runs()) == len(before) + 1, "what succeeded is not done again"
    for name in sweeps.runs():
        run = json.loads((launcher.home / "runs" / name / "run.json").read_text())
        assert run["job"]["envs"].items() >= {"A": "1", "B": "two words"}.items()
        assert (run["time_limit"], run["check"]) == (7200.0, False)
    assert launcher.call("ls", "--tag", "nightly", "--json").stdout.count('"run":') == 4
    told = [line.partition(": ")[2] for line in news.read_text().splitlines()]
    assert told == ["3 trials: 2 succeeded, 1 failed", "3 trials: 3 succeeded"]


def test_stop_and_resume(clean: labs.Lab, launcher: Launcher, sweeps: Sweeps) -> None:
    wait = "/tmp/go-on"
    words = ("-N", "1", "--framework", "torch", "train.py", "--lr", "[0.1, 0.2, 0.3, 0.4]")
    process = sweeps.start("--concurrency", "2", *words, "--wait", wait)
    labs.wait_until(lambda: _running(clean) == 2, "two trials that train")
    stopping = launcher.call("sweep", "stop", "-")
    assert stopping.returncode == 0, stopping.stderr
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert sweeps.statuses() == {"0.1": "stopped", "0.2": "stopped"}
    for host in clean.hosts.values():
        host.write(wait, b"")
    again = launcher.call("sweep", "resume", "-")
    assert again.returncode == 0, again.stderr
    assert set(sweeps.statuses().values()) == {"succeeded"}
    assert len(sweeps.statuses()) == 4
    for host in clean.hosts.values():
        host.run("rm", wait)


def test_a_sweep_resumed_with_other_values(
    clean: labs.Lab, launcher: Launcher, sweeps: Sweeps
) -> None:
    """It counts what the job file asks for now, and keeps what it asked for before."""
    job = launcher.work / "job.yaml"
    job.write_text(JOB.replace("[0.3, 0.2, 0.9]", "[0.2, 0.9]"))
    assert launcher.call("sweep", "job.yaml").returncode == 1
    job.write_text(JOB.replace("[0.3, 0.2, 0.9]", "[0.2, 0.3, 0.4]"))
    again = launcher.call("sweep", "resume", "-")
    assert again.returncode == 0, again.stderr
    assert "[3/3] succeeded" in again.stderr
    assert "4 trials: 3 succeeded, 1 failed" in again.stderr
    assert (sweeps.known()["trials"], len(sweeps.statuses())) == (4, 4)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_a_sweep_that_was_killed(
    clean: labs.Lab, launcher: Launcher, sweeps: Sweeps, number: signal.Signals
) -> None:
    """Its trials go on; who resumes it follows them, and starts none of them twice."""
    wait = "/tmp/go-on-later"
    words = ("-N", "1", "--framework", "torch", "train.py", "--lr", "[0.1, 0.2]")
    process = sweeps.start(*words, "--wait", wait)
    labs.wait_until(lambda: sweeps.begun() == 2, "two trials that can do without their launcher")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 143), err
    assert sweeps.statuses() == {"0.1": "running", "0.2": "running"}
    before, begun = sweeps.runs(), sweeps.begins()
    assert not sweeps.known()["running"]
    for host in clean.hosts.values():
        host.write(wait, b"")
    again = launcher.call("sweep", "resume", "-")
    assert again.returncode == 0, again.stderr
    assert sweeps.statuses() == {"0.1": "succeeded", "0.2": "succeeded"}
    assert (sweeps.runs(), sweeps.begins()) == (before, begun)
    for host in clean.hosts.values():
        host.run("rm", wait)


def _running(lab: labs.Lab) -> int:
    found = [p for host in lab.hosts.values() for p in of_runs(host)]
    return sum(any("train.py" in word for word in process.argv) for process in found)


def test_what_is_wrong_starts_nothing(launcher: Launcher, sweeps: Sweeps) -> None:
    for words, problem in (
        (["--gpus", "2", "train.py", "--lr", "[1, 1]"], "stands twice"),
        (["train.py"], "nothing varies"),
        (["--metric", "loss", "train.py", "--lr", "[1, 2]"], "needs one group"),
        (["--hosts", "nobody", "train.py", "--lr", "[1, 2]"], 'no host "nobody"'),
        (["trian.py", "--lr", "[1, 2]"], 'did you mean "train.py"?'),
    ):
        process = sweeps.start(*words)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 2, err
        assert problem in err.decode()
    assert not (launcher.home / "runs").exists()
    assert not (Path(launcher.home) / "sweeps").exists()


@pytest.mark.usefixtures("clean")
def test_a_sweep_of_which_no_trial_fits_tries_no_other_one(
    launcher: Launcher, sweeps: Sweeps
) -> None:
    launcher.script(SCRIPT)
    process = sweeps.start("--gpus", "99", "train.py", "--lr", "[1, 2, 3, 4]")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert "error: --gpus 99: the hosts have no GPUs\n  hint: " in err.decode()
    assert len(sweeps.runs()) == 1
    (trial,) = sweeps.known()["results"]
    assert trial["reason"] == "does-not-fit"


def test_all_trials_execute_the_code_as_it_was(
    sweeps: Sweeps, clean: labs.Lab, launcher: Launcher
) -> None:
    """Somebody works on the script while its trials run: the later ones took what he had saved."""
    wait = "/tmp/edited"
    words = ("-N", "1", "--framework", "torch", "train.py", "--lr", "[0.1, 0.2, 0.3]")
    process = sweeps.start("--concurrency", "1", *words, "--wait", wait)
    labs.wait_until(lambda: _running(clean) == 1, "the first trial trains")
    launcher.script("raise SystemExit(9)")
    for host in clean.hosts.values():
        host.write(wait, b"")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    noted = [json.loads(file.read_text()) for file in launcher.home.glob("runs/*/code.json")]
    assert {code["folder"] for code in noted} == {str(launcher.work)}
    assert (len(noted), len({code["snapshot"] for code in noted})) == (3, 1)
    assert not list(launcher.home.glob("sweeps/*/code-*"))
    for host in clean.hosts.values():
        host.run("rm", wait)


BEHIND = """
import sys, time
rate = float(sys.argv[2])
for step in range(3):
    print("accuracy:", 1 - rate + step / 100, flush=True)
while rate > 0.5:  # until somebody sees that it falls behind
    time.sleep(0.1)
"""


@pytest.mark.usefixtures("clean")
def test_a_trial_that_falls_behind_is_stopped_and_a_sampler_chooses_others(
    launcher: Launcher, sweeps: Sweeps
) -> None:
    launcher.script(BEHIND, "behind.py")
    common = ("--framework", "torch", "--nodes", "1", "--metric", "accuracy: ([0-9.]+)")
    rates = "[0.1, 0.11, 0.12, 0.13, 0.14, 0.9]"
    pruned = sweeps.start(
        *common, "--pruner", "median", "--concurrency", "1", "behind.py", "--lr", rates
    )
    _, err = pruned.communicate(timeout=120)
    assert pruned.returncode == 0, err
    found = sweeps.statuses()
    assert found.pop("0.9") == "pruned"
    assert set(found.values()) == {"succeeded"}
    assert b"6 trials: 5 succeeded, 1 pruned" in err
    again = launcher.call("sweep", "resume", "-")
    assert (again.returncode, len(sweeps.runs())) == (0, 6), again.stderr
    drawn = launcher.call("sweep", "show", "-", "--svg", "sweep.svg")
    assert drawn.returncode == 0, drawn.stderr
    assert (launcher.work / "sweep.svg").read_text().count("<circle") == 6
    chosen = sweeps.start(
        *common, "--sampler", "tpe", "--max-trials", "4", "behind.py", "--lr", "uniform(0, 0.4)"
    )
    _, err = chosen.communicate(timeout=120)
    assert chosen.returncode == 0, err
    assert b"each chosen when it starts" in err
    assert len({trial["value"] for trial in sweeps.known()["results"]}) == 4
