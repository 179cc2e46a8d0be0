"""What a person does with a run between its start and its end: look, fetch, go there, forget."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from launcher.records.run_lock import holder
from support import lab as labs
from support.command import Launcher, kill_follower, of_runs

TALKER = """
import os, pathlib, time
rank = os.environ["RANK"]
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"])
(out / f"made-{rank}.txt").write_text(rank)
for number in range(30):
    print(f"rank {rank} line {number}", flush=True)
while not pathlib.Path("/tmp/end").exists():
    time.sleep(0.02)
(out / "late.txt").write_text("late")
print("over")
"""


@pytest.fixture
def running(launcher: Launcher, clean: labs.Lab) -> Iterator[Path]:
    """The folder of a detached run of two hosts that has printed its lines; stopped afterwards."""
    hosts = [clean.hosts["lab1"], clean.hosts["lab2"]]
    for host in hosts:
        host.run("rm", "-f", "/tmp/end")
    name = launcher.script(TALKER)
    flags = ["--nodes", "2", "--framework", "torch", "-e", "WORD=it's", "--pull-every", "1h"]
    left = launcher.run("--detach", *flags, name)
    assert left.code == 0, left.err
    (folder,) = (launcher.home / "runs").iterdir()
    logs = [folder / "logs" / "attempt-0" / f"rank-{rank}.out" for rank in (0, 1)]
    labs.wait_until(
        lambda: all(log.exists() and b"line 29\n" in log.read_bytes() for log in logs), "lines", 30
    )
    yield folder
    for host in hosts:
        host.write("/tmp/end", b"")
    assert launcher.call("attach", folder.name).returncode == 0


def test_show(launcher: Launcher, running: Path) -> None:
    shown = launcher.call("show", "-")
    assert shown.returncode == 0, shown.stderr
    rows = [line.split() for line in shown.stdout.splitlines()]
    assert ["lab1", "0", "-", "1", "of", "1", "-"] in rows
    assert any("AllStarted" in row for row in rows)
    (met,) = [line for line in shown.stdout.splitlines() if " HostsMet " in line]
    assert met.endswith("interfaces lab1 eth0, lab2 enp3s0")
    value = json.loads(launcher.call("show", "-", "--json").stdout)
    assert (value["status"], value["followed"], value["receipt"]) == ("running", True, None)
    assert {process["host"] for process in value["processes"]} == {"lab1", "lab2"}


def test_where_the_time_went(launcher: Launcher, running: Path) -> None:
    """Also while it runs: each stage, each step with the slowest host, and a picture."""
    shown = launcher.call("show", "--profile", "--svg", "profile.svg", "-")
    assert shown.returncode == 0, shown.stderr
    first = {line.split()[0] for line in shown.stdout.splitlines() if line}
    assert {"connect", "sync", "run", "code", "ranks"} <= first
    assert (launcher.work / "profile.svg").read_text("utf-8").count("ranks ") == 2
    value = json.loads(launcher.call("show", "--profile", "--json", "-").stdout)
    ranks = [span for span in value["hosts"] if span["step"] == "ranks"]
    assert {span["host"] for span in ranks} == {"lab1", "lab2"}
    assert all(0 <= span["start"] <= span["end"] for span in value["hosts"])
    alone = launcher.call("show", "--svg", "profile.svg", "-")
    assert (alone.returncode, "--profile" in alone.stderr) == (2, True)
    no_folder = launcher.call("show", "--profile", "--svg", "none/profile.svg", "-")
    assert (no_folder.returncode, "cannot write none/profile.svg" in no_folder.stderr) == (2, True)


def test_logs(launcher: Launcher, running: Path) -> None:
    whole = launcher.call("logs", "-").stdout.splitlines()
    assert sum(" line " in line for line in whole) == 60
    some = launcher.call("logs", "-", "--ranks", "1", "--tail", "3").stdout
    assert [line.split("│ ")[1] for line in some.splitlines()] == [
        f"rank 1 line {number}" for number in (27, 28, 29)
    ]
    old = ("logs", "-", "--since", "0s")
    labs.wait_until(lambda: launcher.call(*old).stdout == "", "the lines to be a second old", 30)
    assert len(launcher.call("logs", "-", "--merged").stdout.splitlines()) == 60
    assert "--since: not a duration" in launcher.call("logs", "-", "--since", "x").stderr


def test_logs_can_be_followed_and_left(launcher: Launcher, running: Path, clean: labs.Lab) -> None:
    """-f ends with the run, and does not touch it."""
    looking = launcher.start_command("logs", "-f", "--tail", "1", "-")
    assert looking.stdout
    last = sorted(looking.stdout.readline().split(b"rank ")[1] for _ in range(2))
    assert last == [b"0 line 29\n", b"1 line 29\n"]
    for host in ("lab1", "lab2"):
        clean.hosts[host].write("/tmp/end", b"")
    out, _ = looking.communicate(timeout=30)
    said = [line.partition("│ ")[2] for line in out.decode().splitlines()]
    assert set(said) == {"over"}, "one line, or two where the ranks were not as one"
    assert looking.returncode == 0


@pytest.mark.parametrize("followed", [True, False])
def test_pull(launcher: Launcher, running: Path, followed: bool) -> None:
    """What is there now, while the run goes on; also when nobody follows it here."""
    if not followed:
        kill_follower(running)
        labs.wait_until(lambda: holder(running) is None, "the follower's end")
    assert not (running / "outputs" / "made-1.txt").exists()
    pulled = launcher.call("pull", "-", "there")
    assert pulled.returncode == 0, pulled.stderr
    for name in ("made-0.txt", "made-1.txt"):
        assert (launcher.work / "there" / "outputs" / name).exists()
    log = launcher.work / "there" / "logs" / "attempt-0" / "rank-1.out"
    assert log.read_bytes().endswith(b"line 29\n")
    assert not (running / "receipt.json").exists()


#: The command, but it holds lines until all hosts have ended: one may be seconds behind the other.
PATIENT = (
    "import importlib; importlib.import_module('launcher.cli.commands.exec').HOLD = (600.0, 600.0); "
    "from launcher.cli import main; main()"
)


def test_exec(launcher: Launcher, running: Path) -> None:
    """In the run's folder and environment; equal lines once; a visitor is not of the run."""
    words = ("exec", "-", "--", "sh", "-c", 'pwd | grep -o runs; echo "$WORD"; exit 3')
    ran = subprocess.run(
        [sys.executable, "-c", PATIENT, *words],
        cwd=launcher.work,
        env=launcher.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 3, ran.stderr
    lines = [line.strip() for line in ran.stdout.splitlines()]
    assert lines == ["lab[1-2] │ runs", "lab[1-2] │ it's"]
    one = launcher.call("exec", "-", "--node", "1", "--", "hostname")
    assert one.stdout.strip() == "lab2 │ lab2"
    assert "nodes 0 to 1" in launcher.call("exec", "-", "--node", "2", "--", "true").stderr
    assert "LAUNCHER_RUN_ID" not in launcher.call("exec", "-", "--", "env").stdout
    assert "LAUNCHER_OUTPUT_DIR" in launcher.call("exec", "-", "--", "env").stdout


def test_shell_is_a_real_terminal(launcher: Launcher, running: Path, clean: labs.Lab) -> None:
    """Its size, its folder, the run's Python behind any startup file, and Ctrl-C for what runs in it."""
    clean.hosts["lab2"].write("/srv/first/python", b"#!/bin/sh\n", 0o755)
    clean.hosts["lab2"].write("/root/.bashrc", b"PATH=/srv/first:$PATH\n")
    pid, terminal = pty.fork()
    if pid == 0:
        argv = [sys.executable, "-m", "launcher", "shell", "-", "--node", "1"]
        os.chdir(launcher.work)
        os.execve(argv[0], argv, {**launcher.environment(), "TERM": "xterm"})
    try:
        os.write(terminal, b"stty size; hostname; ls\n")
        _until(terminal, b"train.py")
        os.write(terminal, b"echo own-$(command -v python | grep -c runs)\n")
        _until(terminal, b"own-1")
        os.write(terminal, b"sh -c 'echo asleep-$((40 + 1)); exec sleep 600'\n")
        _until(terminal, b"asleep-41")
        os.write(terminal, b"\x03")
        os.write(terminal, b"echo still-$((40 + 2)); exit 5\n")
        _until(terminal, b"still-42")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 5
        clean.hosts["lab2"].run("rm", "/root/.bashrc")
    finally:
        os.close(terminal)


def _until(terminal: int, words: bytes) -> bytes:
    """What a terminal shows, until these words stand in it."""
    seen, deadline = b"", time.monotonic() + 180
    while words not in seen:
        assert select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0], seen
        seen += os.read(terminal, 4096)
    return seen


def test_rerun_and_rm(launcher: Launcher, clean: labs.Lab) -> None:
    """The same code, though the folder has changed; then nothing is left of either run."""
    name = launcher.script("import os; print('first', os.environ['WORD'])\n")
    flags = ["--nodes", "2", "--framework", "torch", "-e", "WORD=x"]
    assert launcher.run(*flags, name).code == 0
    launcher.script("print('second')\n")
    again = launcher.call("rerun", "-")
    assert again.returncode == 0, again.stderr
    assert re.search(r"\[0(-1)?\] │ first x", again.stdout)
    for words in (("logs", "--ranks", "9", "-"), ("attach", "-", "--ranks", "2-3")):
        refused = launcher.call(*words)
        assert (refused.returncode, "has ranks 0-1" in refused.stderr) == (2, True), refused.stderr
    told = launcher.call("rerun", "-", "--ranks", "1", "--json")
    receipt = json.loads(told.stdout)
    assert (receipt["status"], receipt["world_size"]) == ("succeeded", 2)
    assert "lab2 [1] │ first x" in told.stderr
    assert "[0] │" not in told.stderr
    runs = [path.name for path in (launcher.home / "runs").iterdir()]
    assert len(runs) == 3
    for run in runs:
        removed = launcher.call("rm", run)
        assert removed.returncode == 0, removed.stderr
        for host in ("lab1", "lab2"):
            assert not clean.hosts[host].exists(f"/root/.launcher/host/runs/{run}")
    assert not list((launcher.home / "runs").iterdir())
    assert json.loads(launcher.call("ls", "--json").stdout) == []


def test_rerun_with_other_arguments_on_another_host(launcher: Launcher, clean: labs.Lab) -> None:
    """One that the first run was not on gets the code from the folder, while that has not changed."""
    name = launcher.script("import sys; print('got', *sys.argv[1:]); sys.exit(len(sys.argv) - 2)\n")
    first = ["--hosts", "lab1", "--framework", "torch", name, "a"]
    assert launcher.run(*first).code == 0
    again = launcher.call("rerun", "-", "--", "--lr", "0.2")
    assert (again.returncode, "got --lr 0.2" in again.stdout) == (1, True), again.stderr
    shown = json.loads(launcher.call("show", "-", "--json").stdout)
    assert shown["job"]["run"] == ["train.py", "--lr", "0.2"]
    assert shown["code"]["code_of"]
    there = launcher.call("rerun", "-", "--hosts", "lab2", "--", "b")
    assert (there.returncode, "lab2 [0] │ got b" in there.stdout) == (0, True), there.stderr
    first, *_, last = (run["run"] for run in json.loads(launcher.call("ls", "--json").stdout))
    told = launcher.call("diff", last, first).stdout
    assert re.search(r"^arguments +a +b$", told, re.MULTILINE), told
    assert re.search(r"^hosts +lab1 +lab2$", told, re.MULTILINE)
    assert "no difference" in launcher.call("diff", last, last).stderr
    launcher.script("print('changed')\n")
    gone = launcher.call("rerun", "-", "--hosts", "lab3")
    assert gone.returncode == 125
    assert "has changed since" in gone.stderr
    listed = json.loads(launcher.call("ls", "--json", "--host", "lab2", "GOT", "b").stdout)
    assert listed == []
    listed = json.loads(launcher.call("ls", "--json", "--host", "lab2", "train.py").stdout)
    assert [run["command"] for run in listed] == ["train.py b"]


CONTINUES = """
import os, pathlib
out = pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"]) / "step.txt"
here = pathlib.Path("saved/epoch.txt")
before = [int(file.read_text()) if file.exists() else 0 for file in (out, here)]
print("continues from", *before)
here.parent.mkdir(exist_ok=True)
out.write_text(str(before[0] + 1))
here.write_text(str(before[1] + 10))
"""


def test_a_run_without_hosts(launcher: Launcher, clean: labs.Lab) -> None:
    """It did not fit: there is nothing to enter, and nothing to read."""
    assert launcher.run("--gpus", "9", "--framework", "env", "true").code == 2
    for words in (("exec", "-", "--", "true"), ("forward", "-", "6006")):
        done = launcher.call(*words)
        assert (done.returncode, "has no hosts: it ended before" in done.stderr) == (2, True)
    logs = launcher.call("logs", "-")
    assert (logs.returncode, "none of its processes was started" in logs.stderr) == (0, True)


def test_rerun_from_the_checkpoint(launcher: Launcher, clean: labs.Lab) -> None:
    """On any host, from outputs and from paths of the workdir; a plain rerun begins anew."""
    name = launcher.script(CONTINUES)
    tagged = ("--tag", "base", "--tag", "paper", "--note", "before the fix")
    flags = ("--hosts", "lab1", "--framework", "env", "--output", "saved", f"python3 {name}")
    assert launcher.run(*tagged, *flags).code == 0
    again = launcher.call("rerun", "-", "--from-checkpoint", "--hosts", "lab2", "--tag", "paper")
    assert "continues from 1 10" in again.stdout, again.stderr
    assert "2 files of its outputs are on 1 host" in again.stderr
    third = launcher.call("rerun", "-", "--from-checkpoint")
    assert "continues from 2 20" in third.stdout, third.stderr
    anew = launcher.call("rerun", "-")
    assert "continues from 0 0" in anew.stdout, anew.stderr
    launcher.script("pass")
    assert launcher.run("--hosts", "lab1", "--framework", "env", f"python3 {name}").code == 0
    nothing = launcher.call("rerun", "-", "--from-checkpoint")
    assert (nothing.returncode, "no outputs to continue from" in nothing.stderr) == (2, True)
    listed = json.loads(launcher.call("ls", "--json", "--tag", "paper").stdout)
    assert [(run["tags"], run["note"]) for run in listed] == [
        (["paper"], ""),
        (["base", "paper"], "before the fix"),
    ]
    removed = launcher.call("rm", "-y", "--tag", "base")
    assert listed[1]["run"] in removed.stdout + removed.stderr
    assert len(json.loads(launcher.call("ls", "--json").stdout)) == 4


def test_wait(launcher: Launcher, clean: labs.Lab) -> None:
    """With the exit code of the runs; --any names the one that ended first."""
    name = launcher.script(
        "import pathlib, sys, time\n"
        "while not pathlib.Path('/tmp/end-wait').exists():\n    time.sleep(0.05)\n"
        "sys.exit(3)\n"
    )
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/end-wait")
    words = ["--hosts", "lab1", "--framework", "torch"]
    assert launcher.run("-d", "--name", "slow", *words, name).code == 0
    assert launcher.run("-d", "--name", "quick", *words, launcher.script("", "quick.py")).code == 0
    ended = launcher.call("wait", "slow", "quick", "--any")
    assert (ended.returncode, ended.stdout[:6]) == (0, "quick-"), ended.stderr
    assert of_runs(host), "the other one goes on"
    host.write("/tmp/end-wait", b"")
    both = launcher.call("wait", "*")
    assert (both.returncode, both.stdout) == (3, "")


def test_rm_of_a_run_that_goes_on_is_refused(launcher: Launcher, running: Path) -> None:
    refused = launcher.call("rm", "-")
    assert refused.returncode == 2
    assert "launcher stop" in refused.stderr
    assert running.exists()


def _lock_key(launcher: Launcher, lab: labs.Lab) -> None:
    """Have the hosts take a key alone whose passphrase is ``open sesame``."""
    key = launcher.work / "locked"
    key.write_bytes((lab.root / "id_ed25519").read_bytes())
    key.chmod(0o600)
    key.with_suffix(".pub").write_bytes((lab.root / "id_ed25519.pub").read_bytes())
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-f", str(key)]
    subprocess.run(change, check=True)
    config = launcher.work / "ssh_config"
    config.write_text(lab.ssh_config.read_text().replace(str(lab.root / "id_ed25519"), str(key)))
    inventory = launcher.inventory.read_text().replace(str(lab.ssh_config), str(config))
    launcher.inventory.write_text(inventory)


@pytest.mark.usefixtures("by_asyncssh")
def test_a_key_with_a_passphrase_is_asked_for_once(launcher: Launcher, lab: labs.Lab) -> None:
    """At a terminal, however many hosts need it; it stands in no file of the run, nor is it shown."""
    _lock_key(launcher, lab)
    pid, terminal = pty.fork()
    if pid == 0:
        argv = launcher.argv("--nodes", "2", "--framework", "env", "echo let-in-$((40 + 2))")
        os.chdir(launcher.work)
        os.execve(argv[0], argv, {**launcher.environment(), "SSH_AUTH_SOCK": ""})
    try:
        seen = _until(terminal, b"passphrase for")
        os.write(terminal, b"wrong\n")
        seen += _until(terminal, b"passphrase for")
        os.write(terminal, b"open sesame\n")
        seen += _until(terminal, b"record")  # the last line of the receipt
        assert b"let-in-42" in seen
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, seen
    finally:
        os.close(terminal)
    assert seen.count(b"passphrase for") == 2, "one for a wrong one"
    assert b"open sesame" not in seen
    for file in launcher.home.rglob("*"):
        assert not file.is_file() or b"open sesame" not in file.read_bytes()


@pytest.mark.usefixtures("by_asyncssh")
@pytest.mark.parametrize(
    "words", [("gpus",), ("warm",), ("df",), ("prune", "-y"), ("ls", "--all-users"), ("queue",)]
)
def test_who_asks_hosts_is_asked_for_the_passphrase(
    words: tuple[str, ...], launcher: Launcher, lab: labs.Lab
) -> None:
    """Once, also if the command visits the hosts twice: it was refused with advice on ssh-add."""
    _lock_key(launcher, lab)
    pid, terminal = pty.fork()
    if pid == 0:
        argv = [sys.executable, "-m", "launcher", *words, "-i", str(launcher.inventory)]
        os.chdir(launcher.work)
        os.execve(argv[0], argv, {**launcher.environment(), "SSH_AUTH_SOCK": ""})
    try:
        seen = _until(terminal, b"passphrase for")
        os.write(terminal, b"open sesame\n")
        with suppress(OSError):  # what a terminal says once the last process has closed it
            while read := os.read(terminal, 4096):
                seen += read
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, seen
    finally:
        os.close(terminal)
    assert seen.count(b"passphrase for") == 1, seen


def test_a_run_from_the_outputs_of_another_one(launcher: Launcher, clean: labs.Lab) -> None:
    """On all hosts, at the same paths, also with other code; or some of them; or those that are here."""
    writes = launcher.script(
        "import os, pathlib\n"
        "out, here = pathlib.Path(os.environ['LAUNCHER_OUTPUT_DIR']), pathlib.Path('ckpt/deep')\n"
        "here.mkdir(parents=True)\n"
        "(out / 'a.txt').write_text('a')\n(here / 'b.txt').write_text('b')\n",
        "one.py",
    )
    first = ("--hosts", "lab1", "--framework", "env", "--name", "first", "--output", "ckpt")
    assert launcher.run(*first, f"python3 {writes}").code == 0
    reads = launcher.script(
        "import os, pathlib, sys\n"
        "out = pathlib.Path(os.environ['LAUNCHER_OUTPUT_DIR'])\n"
        "paths = [out / 'a.txt', *map(pathlib.Path, sys.argv[1:])]\n"
        "print(*(p.read_text() if p.exists() else '-' for p in paths), os.environ['LAUNCHER_HOST'])\n",
        "two.py",
    )
    nodes = ("--nodes", "2", "--framework", "env")
    both = launcher.run(*nodes, "--from", "first", f"python3 {reads} ckpt/deep/b.txt")
    assert both.code == 0, both.err
    assert {"a b lab1", "a b lab2"} <= {
        line.split("│")[1].strip() for line in both.out.splitlines()
    }
    assert "2 files of its outputs are on 2 hosts" in both.err
    assert "not copied" not in both.err
    some = launcher.run(*nodes, "--from", "first:ckpt", f"python3 {reads} ckpt/deep/b.txt")
    assert "- b lab1" in some.out, some.err
    none = launcher.run(*nodes, "--from", "first:ckpt/deep/c.txt", f"python3 {reads}")
    assert none.code == 2
    assert "has no output ckpt/deep/c.txt" in none.err
    assert 'did you mean "ckpt/deep/b.txt"?' in none.err
    unknown = launcher.run(*nodes, "--from", "nosuch", f"python3 {reads}")
    assert unknown.code == 2

    (launcher.work / "out" / "epoch").mkdir(parents=True)
    (launcher.work / "out" / "epoch" / "last.ckpt").write_text("mine")
    (launcher.work / "out" / "other").write_text("large")
    words = f"python3 {reads} out/epoch/last.ckpt out/other-2"
    here = launcher.run(*nodes, "--output", "out", words)
    assert "- mine - lab2" in here.out, here.err
    assert "copied 1 file of outputs here, which the command names, to 2 hosts" in here.err
    assert "outputs  1 file" not in here.err, "they are no outputs of this run"
