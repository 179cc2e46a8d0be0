"""What can be wrong with a host or between two: each its own error, with host and hint, in seconds."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support import lab as labs
from support import pythons
from support.command import Launcher


def _forget_key(lab: labs.Lab) -> None:
    lab.known_hosts.write_text("")


CASES: dict[str, tuple[Callable[[labs.Lab], object], str]] = {
    "unknown key": (_forget_key, "unknown-host-key"),
    "wrong key": (lambda lab: lab.hosts["lab2"].change_host_key(), "host-key-mismatch"),
    "refused": (lambda lab: lab.hosts["lab2"].stop_sshd(), "connection-refused"),
    "dropped packets": (lambda lab: lab.hosts["lab2"].drop_packets(), "unreachable"),
    "no sessions": (lambda lab: lab.hosts["lab2"].max_sessions(0), "agent-error"),
    "frozen sshd": (lambda lab: lab.hosts["lab2"].freeze_sshd(), "sshd-frozen"),
    "no rsync": (lambda lab: lab.hosts["lab2"].hide("/usr/bin/rsync"), "no-rsync"),
    "read-only home": (lambda lab: lab.hosts["lab2"].read_only_home(), "not-writable"),
    "firewall": (lambda lab: lab.hosts["lab1"].block_port(29555), "no-meeting-point"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_trouble_has_its_own_error(own: labs.Lab, launcher: Launcher, case: str) -> None:
    """The error names the host and says what to do; nothing is left on the other one."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    breaks, code = CASES[case]
    breaks(own)
    ran = launcher.run(
        "--nodes=2", "--framework=env", "--master-port=29555", "--", "true", timeout=40
    )
    assert ran.code == 125, ran.err
    assert ran.receipt["reason"] == code, ran.err
    assert "hint:" in ran.err
    named = "lab" if case == "unknown key" else "lab2"  # that of both is unknown
    assert named in ran.receipt["error"]
    if case == "firewall":
        assert "lab1" in ran.receipt["error"]
    assert ran.receipt["seconds"] < 14, "8 s of silence, and not twice that"
    assert not [p for p in own.hosts["lab1"].processes() if "LAUNCHER_RUN_ID" in p.environ]


def test_a_login_allows_one_session(own: labs.Lab, launcher: Launcher) -> None:
    """Code, outputs and commands come by logins of their own, and check says what to set."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    for host in own.hosts.values():
        host.max_sessions(1)
    (launcher.work / "part.txt").write_text("part")
    write = 'cat part.txt; echo "$LAUNCHER_HOST" >"$LAUNCHER_OUTPUT_DIR/$LAUNCHER_HOST"'
    ran = launcher.run("--nodes=2", "--framework=env", "--", write)
    assert ran.code == 0, ran.err
    for rank, host in enumerate(own.hosts):
        assert ran.log(f"node-{rank}.out") == b"part"
        assert (ran.folder / "outputs" / host).read_text() == f"{host}\n"
    assert launcher.call("exec", "-", "ls").stdout.count("part.txt") == 1
    done = launcher.call("check", "-i", str(launcher.inventory), "--no-pairs")
    assert "SSH-SESSIONS  lab[1-2]" in done.stdout


#: As a user calls it, but for less patience with a host that does not describe itself.
HURRIED = """
import launcher.transport.agent_client
launcher.transport.agent_client.PATIENCE.update(probe=4.0, survey=4.0)
from launcher.cli import main
main()
"""


@pytest.mark.parametrize(
    ("code", "words"),
    [(125, ("run", "--nodes", "2", "--framework", "env", "true")), (1, ("check", "--no-pairs"))],
    ids=["run", "check"],
)
def test_a_host_whose_files_hang(
    own: labs.Lab, launcher: Launcher, code: int, words: tuple[str, ...]
) -> None:
    """As on a file system that is gone: it is told, and when they come back nothing of us is left."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    far, file = own.hosts["lab2"], "/root/.launcher/host/rsync.json"
    far.run("mkdir", "-p", "/root/.launcher/host")
    far.run("mkfifo", file)  # to open it takes until somebody opens it as well
    done = subprocess.run(
        [sys.executable, "-c", HURRIED, words[0], "-i", launcher.inventory, *words[1:]],
        cwd=launcher.work,
        env=launcher.environment(),
        capture_output=True,
        text=True,
        timeout=180,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    assert "lab2" in said
    assert "the agent did not answer within 4 s" in said
    assert "file system" in said
    assert "Traceback" not in said
    # Who waits is woken, and who comes later finds a file.
    far.run("ln", file, "/root/.launcher/host/hangs")
    far.write(file, b"{}")
    far.spawn("sh", "-c", "exec 3<>/root/.launcher/host/hangs; echo '{}' >&3")
    for host in own.hosts.values():
        labs.wait_until(lambda host=host: not _relays(host), "the end of what was asked")


def _relays(host: labs.LabHost) -> list[labs.Process]:
    return [process for process in host.processes() if "relay" in process.argv]


def test_a_python_that_is_not_there(own: labs.Lab, launcher: Launcher) -> None:
    """The inventory's python: is named."""
    launcher.inventory.write_text(labs.inventory(own, "/opt/none/python"))
    ran = launcher.run("--nodes", "2", "--framework", "env", "--", "true")
    assert ran.receipt["reason"] == "no-python"
    assert "/opt/none/python" in ran.err


def test_a_python_that_is_too_old(own: labs.Lab, launcher: Launcher) -> None:
    """A real one; also when the agent is not there yet, and when it is."""
    old = sorted(Path("/root/.pyenv/versions").glob("3.[67].*/bin/python3"))
    if not old:
        pytest.skip("no Python older than 3.8 under ~/.pyenv/versions")
    for _ in ("sent", "there"):
        launcher.inventory.write_text(labs.inventory(own, str(old[0])))
        ran = launcher.run("--nodes", "2", "--framework", "env", "--", "true")
        assert ran.receipts[-1]["reason"] == "python-too-old"
        assert "is Python 3." in ran.err
        launcher.inventory.write_text(labs.inventory(own, "python3"))
        assert launcher.run("--framework", "env", "--", "true").code == 0


def test_the_oldest_python_that_may_be_there(own: labs.Lab, launcher: Launcher) -> None:
    """Agent, processes, logs and outputs with a real 3.8."""
    launcher.inventory.write_text(labs.inventory(own, pythons.find("3.8")))
    name = launcher.script(
        "import os, sys\nopen(os.environ['LAUNCHER_OUTPUT_DIR'] + '/x', 'w').write('x')\n"
        "print(sys.version)\n"
    )
    ran = launcher.run("--nodes", "2", "--framework", "torch", name)
    assert ran.code == 0, ran.err
    assert re.search(r"\[0(-1)?\] │ 3\.8\.", ran.out)
    assert [output["path"] for output in ran.receipt["outputs"]] == ["x"]


def test_a_name_that_leads_to_loopback(own: labs.Lab, launcher: Launcher) -> None:
    """--master-addr by a name that each host maps to itself: both hosts are named, in seconds."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    own.hosts["lab2"].run("sh", "-c", "echo 127.0.1.1 trap >>/etc/hosts")
    ran = launcher.run("--nodes=2", "--framework=env", "--master-addr=trap", "--", "true")
    assert ran.receipt["reason"] == "no-meeting-point"
    assert "lab2 cannot reach lab1" in ran.err
    assert "the name resolves to the host itself" in ran.err
