"""`launcher inventory` as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support import ROOT

LAB = """\
defaults: {user: ada, env: {A: "\\e[31mred"}}
hosts:
  gpu[01-03]:
    address: 10.0.0.[1-3]
    gpus: 8
    labels: {rack: a}
  old: {gpus: 2, identity_file: ~/.ssh/nowhere}
groups: {fast: "gpu[01-02]"}
ssh_config: ssh.conf
"""
SSH = "Host gpu*\n  Port 2222\nHost *\n  ProxyJump gate\n  User late\n"
INI = "[gpu]\ngpu[1:2] ansible_user=ann http_port=80\n[gpu:vars]\nlauncher_gpus=4\n"


class Command:
    """`launcher` in a folder of its own, without a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "LAUNCHER_HOME": str(self.folder / "home"), "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            [sys.executable, "-m", "launcher", *words],
            cwd=self.folder,
            env={key: value for key, value in env.items() if key != "LAUNCHER_INVENTORY"},
            input=given,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """The command, beside an inventory of ours and one of Ansible."""
    (tmp_path / "inventory.yaml").write_text(LAB)
    (tmp_path / "ssh.conf").write_text(SSH)
    (tmp_path / "hosts.ini").write_text(INI)
    return Command(tmp_path)


def test_ls(command: Command) -> None:
    done = command("inventory", "ls")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "host        address       user  gpus  groups  labels",
        "gpu[01-02]  10.0.0.[1-2]  ada   8     fast    rack=a",
        "gpu03       10.0.0.3      ada   8     -       rack=a",
        "old         -             ada   2     -       -",
        "4 hosts in inventory.yaml",
    ]
    value = json.loads(command("inventory", "ls", "--json").stdout)
    assert value["hosts"][1]["groups"] == ["fast"]
    assert value["hosts"][1]["env"] == {"A": "\x1b[31mred"}
    assert value["groups"] == {"fast": ["gpu01", "gpu02"]}


def test_show_says_where_each_value_comes_from(command: Command) -> None:
    done = command("inventory", "show", "gpu02")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "gpu02  in fast"
    found = {line.split()[0]: line.split(None, 2)[1:] for line in lines[2:]}
    assert found["address"] == ["10.0.0.2", "inventory.yaml:4"]
    assert found["user"] == ["ada", "inventory.yaml:1 (defaults)"]
    assert found["port"] == ["2222", "ssh.conf:2"]
    assert found["proxy_jump"] == ["gate", "ssh.conf:4"]
    assert found["gpus"] == ["8", "inventory.yaml:5"]
    assert found["python"] == ["python3", "default"]
    assert found["interface"] == ["-", "detected from the route to the head node"]
    assert found["labels.rack"] == ["a", "inventory.yaml:6"]
    assert found["env.A"][0] == "'\\x1b[31mred'"  # it cannot colour the screen
    value = json.loads(command("inventory", "show", "old", "--json").stdout)
    assert value["values"]["port"] == {"value": "22", "origin": "ssh's default"}
    assert value["values"]["identity_file"]["origin"] == (
        "inventory.yaml:7; the file does not exist"
    )


def test_show_of_an_imported_host(command: Command) -> None:
    done = command("inventory", "show", "gpu2", "-i", "hosts.ini")
    assert "user           ann               hosts.ini:2\n" in done.stdout
    assert "gpus           4                 hosts.ini:4 (group gpu)\n" in done.stdout
    assert done.stderr == "note: hosts.ini: line 2: variable http_port is not carried over\n"


def test_show_of_nobody(command: Command) -> None:
    done = command("inventory", "show", "gpu04")
    assert done.returncode == 2
    assert 'no host "gpu04" in inventory.yaml' in done.stderr
    assert 'did you mean "gpu0' in done.stderr


@pytest.mark.thorough
def test_import_never_overwrites(command: Command) -> None:
    done = command("inventory", "import", "hosts.ini", "-o", "new.yaml")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.splitlines() == [
        "note: hosts.ini: line 2: variable http_port is not carried over",
        "2 hosts in new.yaml",
    ]
    text = (command.folder / "new.yaml").read_text()
    assert "#   line 2: variable http_port is not carried over\n" in text
    assert yaml.safe_load(text)["hosts"] == {"gpu[1-2]": None}
    assert command("inventory", "ls", "-i", "new.yaml").returncode == 0
    (command.folder / "new.yaml").write_text("mine")
    again = command("inventory", "import", "hosts.ini", "-o", "new.yaml")
    assert again.returncode == 2
    assert "new.yaml exists" in again.stderr
    assert (command.folder / "new.yaml").read_text() == "mine"
    assert command("inventory", "import", "hosts.ini", "-o", "new.yaml", "--force").returncode == 0
    assert (command.folder / "new.yaml").read_text() == text


@pytest.mark.thorough
def test_import_by_name_and_from_stdin(command: Command) -> None:
    done = command("inventory", "import", "-", "--from", "clustershell", given="hosts: a[1-2]\n")
    assert done.stdout.endswith('hosts:\n  a[1-2]:\ngroups:\n  hosts: "a[1-2]"\n'), done.stderr
    done = command("inventory", "import", "-", given="Dear all")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: stdin:1: not an inventory in any known format")
    assert "hint: known: dstack, ray" in done.stderr
    done = command("inventory", "import", "inventory.yaml")
    assert (done.returncode, done.stderr) == (
        2,
        "error: inventory.yaml already is a launcher inventory\n  hint: use it as it is: -i inventory.yaml\n",
    )
    done = command("inventory", "import", ".")
    assert (done.returncode, done.stderr) == (2, "error: inventory .: Is a directory\n")


def test_export(command: Command) -> None:
    done = command("inventory", "export", "--to", "hostfile", "--hosts", "@fast")
    assert done.stdout == "# written by: launcher inventory export\ngpu01 slots=8\ngpu02 slots=8\n"
    assert "note: groups are not carried over: fast\n" in done.stderr
    assert (
        "note: connection settings: export them with launcher inventory export --to ssh_config"
        in done.stderr
    )
    back = command("inventory", "import", "-", given=done.stdout)
    assert back.stdout.endswith("defaults:\n  gpus: 8\nhosts:\n  gpu[01-02]:\n"), back.stdout


def test_importers_are_not_loaded_for_an_inventory_of_ours(command: Command) -> None:
    code = (
        "import sys; from launcher.fleet import inventory_file; inventory_file.load_inventory('inventory.yaml'); "
        "from launcher.cli.commands import run; print([m for m in sys.modules if 'interop' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=command.folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
        timeout=90,
    )
    assert done.stdout == "[]\n"


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("ls", "--all-users"), 1),
        (("attach", "far-away-run"), 2),
        (("check",), 1),
        (("bootstrap", "--dry-run"), 1),
        (("run", "--dry-run", "--framework", "env", "true"), 0),
    ],
)
def test_every_command_says_what_it_leaves_out(
    command: Command, words: tuple[str, ...], code: int
) -> None:
    """Of another tool's list, once; nobody listens where this one leads."""
    (command.folder / "far.ini").write_text(
        "gpu1 ansible_host=127.0.0.1 ansible_port=1 http_port=80\n"
    )
    first, *rest = words
    done = command(first, "-i", "far.ini", *rest)
    assert done.returncode == code, done.stderr
    assert done.stderr.count("note: far.ini: ") == 1, done.stderr
    assert "http_port" in done.stderr
