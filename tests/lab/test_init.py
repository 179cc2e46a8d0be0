"""`launcher init`: from nothing to an inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from launcher.fleet import inventory_file
from support import ROOT
from support import lab as labs
from support.own_home import at_home
from support.terminal import Terminal

LAUNCHER = [sys.executable, "-m", "launcher", "init"]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with an empty ~/.ssh, and nothing else."""
    (tmp_path / "me" / ".ssh").mkdir(parents=True, mode=0o700)
    return tmp_path / "me"


def environment(home: Path) -> dict[str, str]:
    mine = {"HOME": str(home), "LAUNCHER_HOME": str(home / "l"), "PYTHONPATH": str(ROOT)}
    return {**os.environ, **mine, "NO_COLOR": "1", "SSH_AUTH_SOCK": ""}


def init(home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        at_home(home, [*LAUNCHER, *words]),
        cwd=home,
        env=environment(home),
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=180,
        check=False,
    )


def test_hosts_of_ssh_config_at_a_terminal(lab: labs.Lab, home: Path) -> None:
    """It names what ~/.ssh knows, asks, looks at the hosts, also through a jump, and a run could use
    the file; hosts that are not ready are in it, too, and why; bootstrap is named for
    those that it can help."""
    ssh = home / ".ssh"
    (ssh / "config").write_text("Include hosts.d/*\nHost *\n  LogLevel ERROR\n")
    (ssh / "hosts.d").mkdir()
    (ssh / "hosts.d" / "lab").write_text(lab.ssh_config.read_text())
    (ssh / "known_hosts").write_text(
        "[other]:2200,10.0.0.9 ssh-ed25519 AAAA\n|1|aa=|bb= ssh-rsa A\n"
    )
    with Terminal(at_home(home, LAUNCHER), home, environment(home)) as terminal:
        terminal.expect("in ~/.ssh/config: lab[1-3]")
        terminal.expect("in ~/.ssh/known_hosts: other")
        terminal.expect("1 line of ~/.ssh/known_hosts")
        terminal.expect("Which hosts?")
        terminal.type("lab[1,3] nobody@lab2 127.0.0.1:1")
        code = terminal.end()
    said = terminal.seen.decode()
    assert code == 1, said
    assert "next: launcher bootstrap -i inventory.yaml --hosts lab2\r\n" in said
    text = (home / "inventory.yaml").read_text()
    assert "lab3: # " in text
    assert f"ib0 {lab.hosts['lab3'].address}" in text
    assert "not ready: nothing listens on 127.0.0.1 port 1" in text
    inventory = inventory_file.load_inventory(home / "inventory.yaml")
    assert [host.name for host in inventory.hosts] == ["lab1", "lab3", "lab2", "127.0.0.1"]
    assert inventory.hosts[3].port == 1


def test_without_a_terminal(lab: labs.Lab, home: Path) -> None:
    """Hosts by words, never out of ~/.ssh; a file that is there is written over with --yes only, and
    hosts are added to it."""
    (home / ".ssh" / "config").write_text(lab.ssh_config.read_text())
    nothing = init(home)
    assert nothing.returncode == 2
    assert "which hosts?" in nothing.stderr
    file = home / "my hosts.yaml"
    file.write_text("mine\n")
    kept = init(home, "lab1", "-o", str(file))
    assert kept.returncode == 2
    assert file.read_text() == "mine\n"
    made = init(home, "lab[1-2]", "-o", str(file), "--yes", "--json")
    assert made.returncode == 0, made.stderr
    assert [(h["name"], h["ready"]) for h in json.loads(made.stdout)["hosts"]] == [
        ("lab1", True),
        ("lab2", True),
    ]
    assert len(inventory_file.load_inventory(file).hosts) == 2
    file.write_text(file.read_text() + "groups: {mine: lab1}  # mine\n")
    before = file.read_text()
    added = init(home, "lab[2-3]", "-o", str(file))
    assert added.returncode == 0, added.stderr
    assert f"{file}: 1 host added" in added.stdout
    inventory = inventory_file.load_inventory(file)
    assert [host.name for host in inventory.hosts] == ["lab1", "lab2", "lab3"]
    assert "  lab3: # " in file.read_text()
    assert all(line in file.read_text() for line in before.splitlines())
    again = init(home, "lab[2-3]", "-o", str(file))
    assert again.returncode == 2
    assert "has lab[2-3] already" in again.stderr
