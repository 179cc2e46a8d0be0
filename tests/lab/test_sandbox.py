"""The embedded hosts: up, down, ls, and runs that share them. No root, no sshd."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT
from support.command import Launcher
from support.terminal import Terminal


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Launcher]:
    """The command with the inventory of the sandbox; whatever is up is taken down."""
    work = tmp_path / "work"
    work.mkdir()
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text("sandbox: true\nhosts: ['local[1-3]']\n")
    launcher = Launcher(inventory, work, tmp_path / "home")
    yield launcher
    _call(launcher, "down")


def _call(launcher: Launcher, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "launcher", "sandbox", *words]
    return subprocess.run(
        argv, env=launcher.environment(), capture_output=True, text=True, check=False, timeout=60
    )


def test_up_ls_and_down(sandbox: Launcher) -> None:
    """The hosts are real to a user's own ssh as well; a run leaves them up."""
    assert "no sandbox is up" in _call(sandbox, "ls").stdout
    up = _call(sandbox, "up", "3").stdout
    assert "3 hosts are up" in up
    (inventory,) = [line.split()[-1] for line in up.splitlines() if " check -i " in line]
    assert sandbox.call("check", "--no-pairs", "-i", inventory).returncode == 0
    again = _call(sandbox, "up")
    assert again.returncode == 2
    assert "launcher sandbox down" in again.stderr
    listed = json.loads(_call(sandbox, "ls", "--json").stdout)
    assert [host["name"] for host in listed] == ["local1", "local2", "local3"]
    config = sandbox.home / "sandbox" / "ssh_config"
    argv = ["ssh", "-F", str(config), "local3", "echo $HOME; exit 3"]
    said = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert (said.returncode, said.stdout.strip()) == (3, listed[2]["home"])
    ran = sandbox.run("--nodes", "3", "--framework", "env", "--", "echo", "hello")
    assert ran.code == 0, ran.err
    # Hosts share a line if they print the same at about the same time.
    assert ran.out.splitlines() and all(one.endswith("│ hello") for one in ran.out.splitlines())
    assert len(json.loads(_call(sandbox, "ls", "--json").stdout)) == 3
    assert "3 hosts stopped" in _call(sandbox, "down").stdout
    assert json.loads(_call(sandbox, "ls", "--json").stdout) == []


def test_a_run_of_hosts_that_are_down_can_be_visited(sandbox: Launcher) -> None:
    """They come for the errand, and go with it."""
    assert sandbox.run("--framework", "env", "--nodes", "2", "--", "touch", "made").code == 0
    ran = sandbox.call("exec", "-", "--", "ls")
    assert (ran.returncode, ran.stdout) == (0, "local[1-2] │ made\n"), ran.stderr
    listed = sandbox.call("ls", "--all-users", "-i", str(sandbox.inventory))
    assert listed.returncode == 0, listed.stderr
    assert "no sandbox is up" in _call(sandbox, "ls").stdout


@pytest.mark.skipif(shutil.which("mpirun") is None, reason="no mpirun here")
def test_mpi_works_there(sandbox: Launcher) -> None:
    """Where all hosts are one machine, and share its name and its memory."""
    pytest.importorskip("mpi4py", reason="mpi4py is not installed here")
    sandbox.inventory.write_text(
        f"sandbox: true\ndefaults: {{python: {sys.executable}}}\nhosts: ['local[1-2]']\n"
    )
    ran = sandbox.run(str(ROOT / "examples" / "mpi_sum" / "job.yaml"))
    assert ran.code == 0, ran.err
    # Open MPI itself may print that it could not set the group of a child that was quick.
    assert re.findall(r"rank \d/4 on .*: (\d+)$", ran.out, re.M) == ["10"] * 4


def test_a_shell_there_is_a_real_terminal(sandbox: Launcher) -> None:
    """Enter and Ctrl-C arrive, and what was shown last is shown."""
    _call(sandbox, "up", "3")
    assert sandbox.run("--framework", "env", "--", "true").code == 0
    argv = [sys.executable, "-m", "launcher", "shell", "-"]
    env = {**sandbox.environment(), "TERM": "xterm", "SHELL": "/bin/sh"}
    with Terminal(argv, sandbox.work, env, columns=97) as terminal:
        terminal.type("stty size; sh -c 'echo asleep-$((40 + 1)); exec sleep 600'")
        terminal.expect("24 97")
        terminal.expect("asleep-41")
        os.write(terminal.fd, b"\x03")
        terminal.type("echo still-$((40 + 2)); exit 5")
        terminal.expect("still-42")
        assert terminal.end() == 5


def test_a_port_of_a_host_is_forwarded_and_no_other_machine_is_reached(sandbox: Launcher) -> None:
    """As to a dashboard: to what listens on loopback. No host is a way to other machines."""
    _call(sandbox, "up", "3")
    assert sandbox.run("--framework", "env", "--", "true").code == 0
    with socket.create_server(("127.0.0.1", 0)) as served:
        port = served.getsockname()[1]
        forwarding = sandbox.start_command("forward", "-", f"0:{port}")
        try:
            assert forwarding.stderr
            said = forwarding.stderr.readline().decode()
            found = re.match(rf"http://127.0.0.1:(\d+) leads to port {port} of local1", said)
            assert found, said
            with socket.create_connection(("127.0.0.1", int(found[1])), timeout=30) as here:
                served.settimeout(30)
                there, _ = served.accept()
                with there:
                    here.sendall(b"ping")
                    assert there.recv(4) == b"ping"
                    there.sendall(b"pong")
                    assert here.recv(4) == b"pong"
        finally:
            forwarding.send_signal(signal.SIGINT)
            forwarding.communicate(timeout=30)
    config = sandbox.home / "sandbox" / "ssh_config"
    argv = ["ssh", "-F", str(config), "-W", "192.0.2.1:80", "local1"]
    refused = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30)
    assert refused.returncode
    assert "administratively prohibited" in refused.stderr


def test_runs_share_hosts_and_the_last_one_ends_them(sandbox: Launcher) -> None:
    """The first run starts them, and ends before the second."""
    go = [sandbox.work / "go-1", sandbox.work / "go-2"]
    for file in go:
        os.mkfifo(file)
    running = []
    for file in go:
        running.append(sandbox.start("--framework", "env", f"echo begun; cat '{file}'; echo over"))
        out = running[-1].stdout
        assert out
        assert b"begun" in out.readline()
    for file, process in zip(go, running, strict=True):
        file.write_text("now\n")
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert b"over" in out
    assert "no sandbox is up" in _call(sandbox, "ls").stdout


def test_much_output_that_is_read_slowly(sandbox: Launcher) -> None:
    """All of it comes, and input reaches its end; 4 MB of answers cost the connection."""
    _call(sandbox, "up", "1")
    config = sandbox.home / "sandbox" / "ssh_config"
    script = "cat; head -c 20000000 /dev/zero; echo told >&2; (sleep 9 &)"
    with subprocess.Popen(
        ["ssh", "-F", str(config), "local1", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"x" * 100_000)
        process.stdin.close()
        count = 0
        while piece := process.stdout.read(200_000):
            count += len(piece)
            time.sleep(0.005)
        assert (count, process.stderr.read()) == (20_100_000, b"told\n")
    assert process.returncode == 0
