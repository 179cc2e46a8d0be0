"""A cluster whose parts are small programs: it comes up or says why not, and its parts end with it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from launcher.agent.mesh import cluster
from support import ROOT
from support.lab import wait_until

PROGRAM = "import sys; from launcher.agent.mesh.cluster import main; main(sys.argv[1:])"


def start(
    folder: Path, command: str, *parts: tuple[str, ...], **more: Any
) -> subprocess.Popen[str]:
    spec = {
        "name": "mine",
        "parts": [(f"h{number}", argv) for number, argv in enumerate(parts)],
        "joined": ["sh", "-c", "until [ -e up0 ]; do sleep 0.05; done"],
        "seconds": 60,
        "env": {"WHERE": "here"},
        "ready": "mine: all have joined",
        **more,
    }
    argv = [sys.executable, "-c", PROGRAM, json.dumps(spec), "sh", "-c", command]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LAUNCHER_OUTPUT_DIR": str(folder / "outputs")}
    pipe = subprocess.PIPE
    return subprocess.Popen(argv, cwd=folder, env=env, stdout=pipe, stderr=pipe, text=True)


def part(name: str, pid_in: str) -> tuple[str, ...]:
    return ("sh", "-c", f"echo $$ > {pid_in}; echo begun; touch {name}; exec sleep 600")


def is_gone(pid_file: Path) -> bool:
    pid = int(pid_file.read_text())
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def test_the_command_runs_when_all_have_joined_and_parts_end_with_it(tmp_path: Path) -> None:
    command = "[ -e up0 ] && echo $WHERE; exit 3"
    running = start(tmp_path, command, part("up0", "pid0"), part("up1", "pid1"))
    out, err = running.communicate(timeout=60)
    assert (running.returncode, out, err) == (3, "here\n", "mine: all have joined\n")
    wait_until(lambda: is_gone(tmp_path / "pid0"), "the end of its processes")
    assert (tmp_path / "outputs" / "cluster" / "0-h0.log").read_text() == "begun\n"


def test_a_part_that_ends_before_all_have_joined_is_named_with_what_it_said(tmp_path: Path) -> None:
    never = ["sleep", "600"]
    broken = ("sh", "-c", "until [ -e up0 ]; do sleep 0.05; done; echo no such module; exit 9")
    running = start(tmp_path, "touch ran", part("up0", "pid0"), broken, joined=never)
    _, err = running.communicate(timeout=60)
    assert running.returncode == cluster.FAILED
    assert err == (
        "mine did not come up: a part exited with 9\noutputs/cluster/1-h1.log:\nno such module\n"
    )
    assert not (tmp_path / "ran").exists()
    wait_until(lambda: is_gone(tmp_path / "pid0"), "the end of its processes")


@pytest.mark.thorough
def test_waiting_ends(tmp_path: Path) -> None:
    running = start(
        tmp_path, "touch ran", part("up0", "pid0"), joined=["sleep", "600"], seconds=0.2
    )
    assert "not all hosts have joined in 0 seconds" in running.communicate(timeout=60)[1]
    failing = start(
        tmp_path, "touch ran", part("up0", "pid0"), joined=["sh", "-c", "echo why; exit 1"]
    )
    assert "who has joined\noutputs/cluster/joined.log:\nwhy" in failing.communicate(timeout=60)[1]
    assert not (tmp_path / "ran").exists()


def test_a_stop_ends_the_command_and_all_parts(tmp_path: Path) -> None:
    command = "echo $$ > pid; touch running; exec sleep 600"
    running = start(tmp_path, command, part("up0", "pid0"))
    wait_until((tmp_path / "running").exists, "the command")
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    assert running.returncode == 128 + signal.SIGTERM
    wait_until(lambda: is_gone(tmp_path / "pid"), "the end of its processes")
    wait_until(lambda: is_gone(tmp_path / "pid0"), "the end of its processes")


@pytest.mark.thorough
def test_without_a_command_it_is_kept_until_its_head_exits_and_says_who_leaves(
    tmp_path: Path,
) -> None:
    spec = {
        "name": "mine",
        "parts": [
            (
                "h0",
                (
                    "sh",
                    "-c",
                    "touch up0; until [ -e leave ]; do sleep 0.05; done; echo full; exit 9",
                ),
            ),
            (
                "h1",
                ("sh", "-c", "until [ -e lose ]; do sleep 0.05; done; echo lost; exit 3"),
            ),
        ],
        "joined": ["sh", "-c", "until [ -e up0 ]; do sleep 0.05; done"],
        "seconds": 60,
        "env": {},
        "ready": "mine: all have joined",
    }
    argv = [sys.executable, "-c", PROGRAM, json.dumps(spec)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "LAUNCHER_OUTPUT_DIR": str(tmp_path / "outputs")}
    running = subprocess.Popen(argv, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)
    assert running.stderr
    assert running.stderr.readline() == "mine: all have joined\n"
    (tmp_path / "lose").touch()
    assert running.stderr.readline() == "a part exited with 3\n"
    (tmp_path / "leave").touch()
    assert running.stderr.read() == (
        "outputs/cluster/1-h1.log:\nlost\nthe head exited with 9\noutputs/cluster/0-h0.log:\nfull\n"
    )
    assert running.wait(timeout=60) == cluster.FAILED


def test_a_stop_while_something_starts_waits_until_it_is_known() -> None:
    known, whole = [], cluster._Whole()

    def start() -> None:
        with whole:
            whole.stop(signal.SIGTERM, None)
            known.append("it")

    with pytest.raises(SystemExit) as ended:
        start()
    assert (ended.value.code, known) == (143, ["it"])
