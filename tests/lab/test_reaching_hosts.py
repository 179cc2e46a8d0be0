"""Reach hosts of a run, and hosts without one: ports, commands, and logs by content and time."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

from support import lab as labs
from support.command import Launcher

SERVER = """
import functools, http.server, pathlib, threading
pathlib.Path("/tmp/www").mkdir(exist_ok=True)
pathlib.Path("/tmp/www/x").write_bytes(b"hello " * 100_000)
handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/tmp/www")
server = http.server.ThreadingHTTPServer(("127.0.0.1", 6006), handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
for number in range(200):
    print("step", number, flush=True)
while not pathlib.Path("/tmp/end").exists():
    threading.Event().wait(0.05)
"""


def test_a_port_of_a_host_and_logs_by_content(launcher: Launcher, clean: labs.Lab) -> None:
    host = clean.hosts["lab1"]
    host.run("rm", "-f", "/tmp/end")
    flags = ["-d", "--hosts", "lab1", "--framework", "torch", "--pull-every", "1h"]
    started = launcher.run(*flags, launcher.script(SERVER))
    assert started.code == 0, started.err
    name = started.folder.name
    log = started.folder / "logs" / "attempt-0" / "rank-0.out"
    try:
        labs.wait_until(lambda: log.exists() and b"step 199" in log.read_bytes(), "the lines", 30)
        forwarding = subprocess.Popen(
            [sys.executable, "-m", "launcher", "forward", name, "0:6006"],
            cwd=launcher.work,
            env=launcher.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert forwarding.stderr
        try:
            line = forwarding.stderr.readline()
            found = re.match(r"(http://127.0.0.1:\d+) leads to port 6006 of lab1", line)
            assert found, line
            for _ in range(3):
                with urllib.request.urlopen(f"{found[1]}/x", timeout=30) as answer:
                    assert answer.read() == b"hello " * 100_000
        finally:
            forwarding.send_signal(signal.SIGINT)
            forwarding.communicate(timeout=90)
        assert forwarding.returncode == 130
        assert launcher.call("forward", name, "x:y").returncode == 2
        assert _lines(launcher, name, "--grep", "step 19[0-1]") == ["step 190", "step 191"]
        assert _lines(launcher, name, "--grep", "^step 7$") == ["step 7"]
        stamped = _lines(launcher, name, "--timestamps", "--tail", "1")
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d step 199", stamped[0]), stamped
        wrong = launcher.call("logs", name, "--grep", "(")
        assert wrong.returncode == 2
        assert "--grep (: not a regular expression" in wrong.stderr
    finally:
        host.write("/tmp/end", b"")
    attached = launcher.call("attach", name, "--tail", "2")
    assert attached.returncode == 0
    lines = [line for line in attached.stdout.splitlines() if "│ " in line]
    shown = [line.partition("│ ")[2] for line in lines]
    assert shown == ["step 198", "step 199"]


def _lines(launcher: Launcher, *words: str) -> list[str]:
    done = launcher.call("logs", *words)
    assert done.returncode == 0, done.stderr
    return [line.partition("│ ")[2] for line in done.stdout.splitlines() if "│ " in line]


def test_a_command_on_hosts_without_a_run(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """The first command of a morning needs no run."""
    where = ["-i", str(launcher.inventory)]
    done = launcher.call("exec", *where, "--hosts", "lab[1-2]", "--", "sh", "-c", "echo $HOME")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["lab[1-2]", "│", "/root"]
    failed = launcher.call("exec", *where, "--hosts", "lab1", "--", "sh", "-c", "exit 7")
    assert failed.returncode == 7
    assert launcher.call("exec", *where, "--hosts", "lab9", "--", "true").returncode == 2
    assert "no command for -" in launcher.call("exec", "-").stderr


def test_news_of_a_run_that_nobody_watches(launcher: Launcher, clean: labs.Lab) -> None:
    """Its follower sends them; what cannot be sent is said and costs the run nothing."""
    file = launcher.work / "news"
    command = f'echo "$LAUNCHER_TEXT" >> "{file}"'
    flags = ["-d", "--hosts", "lab1", "--framework", "env", "--pull-every", "1h"]
    notified = ["--notify", command, "--notify", "exit 4"]
    started = launcher.run(*flags, *notified, "--", "sh", "-c", "exit 3")
    name = started.folder.name
    labs.wait_until(lambda: (started.folder / "receipt.json").exists(), "the end", 60)
    labs.wait_until(lambda: file.exists() and file.read_text() != "", "the news", 30)
    assert file.read_text() == f"{name} failed (exit-3)\n"
    events = started.folder / "events.jsonl"
    labs.wait_until(lambda: b"NotificationFailed" in events.read_bytes(), "the failure", 30)
    assert "sh exited with 4" in launcher.call("show", name).stdout
    assert command not in (started.folder / "run.json").read_text(), "hosts get that file"
    assert launcher.run("--notify", " ", "--", "true").code == 2


def test_a_folder_goes_to_several_hosts_at_once(launcher: Launcher, clean: labs.Lab) -> None:
    """With its odd names; a second time only changes travel, and a host that fails is named."""
    data = launcher.work / "my data"
    (data / "deep er").mkdir(parents=True)
    (data / "deep er" / "it's.bin").write_bytes(b"x" * 3_000_000)
    (data / "skip.tmp").write_text("x")
    words = ["push", "my data", "-i", str(launcher.inventory), "--hosts", "lab[1-2]", "--json"]
    words += ["--exclude", "*.tmp"]
    first = json.loads(launcher.call(*words, "--to", "/tmp/pushed/to here").stdout)
    assert first["failed"] == {}
    assert all(sent > 3_000_000 for sent in first["sent"].values())
    for name in ("lab1", "lab2"):
        host = clean.hosts[name]
        assert len(host.read("/tmp/pushed/to here/deep er/it's.bin")) == 3_000_000
        assert not host.exists("/tmp/pushed/to here/skip.tmp")
    again = json.loads(launcher.call(*words, "--to", "/tmp/pushed/to here").stdout)
    assert all(sent < 10_000 for sent in again["sent"].values())
    home = launcher.call("push", "my data", "-i", str(launcher.inventory), "--hosts", "lab1")
    assert home.returncode == 0, home.stderr
    assert clean.hosts["lab1"].exists("/root/my data/skip.tmp")
    clean.hosts["lab2"].write("/tmp/a-file", b"")
    bad = launcher.call(*words, "--to", "/tmp/a-file/x")
    assert bad.returncode == 1
    assert list(json.loads(bad.stdout)["failed"]) == ["lab2"]
    assert launcher.call("push", "nothing", "-i", str(launcher.inventory)).returncode == 2
    assert launcher.call(*words, "--to", "~bob/x").returncode == 2
