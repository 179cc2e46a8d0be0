"""Disk space: what runs take, and getting it back, here and on hosts."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from support import lab as labs
from support.command import Launcher
from support.terminal import Terminal

HOST_ROOT = "/root/.launcher/host"
WRITES = 'echo x > "$LAUNCHER_OUTPUT_DIR/x"'


def age(path: Path, days: int) -> None:
    """Make a folder, and all in it, look as if it was written so many days ago."""
    then = time.time() - days * 86400
    for base, folders, files in os.walk(path):
        for name in (*folders, *files):
            os.utime(os.path.join(base, name), (then, then), follow_symlinks=False)
    os.utime(path, (then, then))


def test_df_prune_and_bulk_rm(launcher: Launcher, clean: labs.Lab) -> None:
    host = clean.hosts["lab1"]
    host.run("rm", "-rf", f"{HOST_ROOT}/runs", f"{HOST_ROOT}/code")
    flags = ["--hosts", "lab1", "--framework", "env"]
    for name in ("old", "sweep-a", "sweep-b"):
        ran = launcher.run(*flags, "--name", name, "--", "sh", "-c", WRITES)
        assert ran.code == 0, ran.err
    failed = launcher.run(*flags, "--name", "bad", "--", "sh", "-c", "exit 3")
    assert failed.code == 3
    runs = {path.name.rpartition("-")[0]: path for path in (launcher.home / "runs").iterdir()}
    host.run("mkdir", "-p", f"{HOST_ROOT}/agent/agent-0123abc")
    host.write(f"{HOST_ROOT}/agent/agent-0123abc/start.py", b"x" * 5000)

    used = launcher.call("df", "-i", str(launcher.inventory), "--hosts", "lab1", "--json")
    assert used.returncode == 0, used.stderr
    value = json.loads(used.stdout)
    assert {run["run"] for run in value["here"]["runs"]} == {path.name for path in runs.values()}
    assert {run["run"] for run in value["hosts"]["lab1"]["runs"]} == {
        path.name for path in runs.values()
    }
    assert "lab1" in launcher.call("df", "-i", str(launcher.inventory), "--hosts", "lab1").stdout

    # One run, and the version of the code that all use, are from another month.
    receipt = json.loads((runs["old"] / "receipt.json").read_text())
    receipt["started"] -= 40 * 86400
    (runs["old"] / "receipt.json").write_text(json.dumps(receipt))
    age(host.path(f"{HOST_ROOT}/code"), 40)
    words = ["prune", "-i", str(launcher.inventory), "--hosts", "lab1"]
    plan = json.loads(launcher.call(*words, "--dry-run", "--json").stdout)
    assert plan["here"] == [runs["old"].name]
    assert plan["hosts"]["lab1"]["runs"] == [runs["old"].name]
    assert "agent-0123abc" in plan["hosts"]["lab1"]["agents"]
    refused = launcher.call(*words)
    assert refused.returncode == 1
    assert runs["old"].exists()
    pruned = launcher.call(*words, "-y")
    assert pruned.returncode == 0, pruned.stderr
    assert "freed " in pruned.stdout
    assert not runs["old"].exists()
    assert not host.exists(f"{HOST_ROOT}/runs/{runs['old'].name}")
    assert not host.exists(f"{HOST_ROOT}/agent/agent-0123abc")
    assert host.exists(f"{HOST_ROOT}/runs/{runs['sweep-a'].name}")
    assert launcher.run(*flags, "--name", "after", "--", "true").code == 0

    assert launcher.call("rm", "sweep-*").returncode == 1, "nobody agreed"
    argv = [sys.executable, "-m", "launcher", "rm", "sweep-*"]
    with Terminal(argv, launcher.work, {**launcher.environment(), "TERM": "xterm"}) as terminal:
        terminal.expect("Delete them?")
        terminal.type("y")
        assert terminal.end() == 0
    assert not runs["sweep-a"].exists()
    gone = launcher.call("rm", "--failed", "-y", "--json")
    assert json.loads(gone.stdout) == {"deleted": [runs["bad"].name], "kept": []}
    assert launcher.call("rm", "nothing-*").returncode == 2


def test_several_runs_are_stopped_at_once(launcher: Launcher, clean: labs.Lab) -> None:
    flags = ["--hosts", "lab1", "--framework", "env", "-d", "--pull-every", "1h"]
    for number in range(3):
        started = launcher.run(*flags, "--name", f"many-{number}", "--", "sleep", "600")
        assert started.code == 0, started.err
    assert launcher.call("stop", "many-*").returncode == 1, "nobody agreed"
    stopped = launcher.call("stop", "many-*", "-y", "--json")
    assert stopped.returncode == 0, stopped.stderr
    assert [one["reason"] for one in json.loads(stopped.stdout)] == ["by-user"] * 3
    assert launcher.call("stop", "many-*", "-y").stderr.strip() == "no active run matches"
