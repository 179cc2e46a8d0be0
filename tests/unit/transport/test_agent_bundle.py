"""The agent on a host is whole, or installed again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from launcher.spec.model import Host
from launcher.transport import agent_bundle as bundle
from launcher.transport import login_shell


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host("far", workdir=str(tmp_path), python=sys.executable)


def started(host: Host) -> bytes:
    """What a relay says first, or the shell in its place."""
    words = ["sh", "-c", bundle.start_command(host)]
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    return (done.stdout + done.stderr).partition(f"\n{login_shell.MARKER}\n".encode())[2][:200]


def install(host: Host) -> None:
    words = ["sh", "-c", bundle.install_command(host)]
    done = subprocess.run(words, input=bundle.agent_zip(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["agent/relay/relay.py", "agent/main.py", "start.py"])
@pytest.mark.parametrize("damage", ["emptied", "removed", "cut"])
def test_a_damaged_agent_is_installed_again(host: Host, name: str, damage: str) -> None:
    assert started(host) == b"launcher-no-agent\n"
    install(host)
    assert b"magic" in started(host)
    file = Path(host.workdir, "agent", bundle.agent_name(), name)
    if damage == "removed":
        file.unlink()
    elif name != "start.py" or damage == "emptied":
        file.write_bytes(b"" if damage == "emptied" else file.read_bytes()[:-10])
    else:
        return  # a start file that is cut is a SyntaxError, which is told
    assert started(host) == b"launcher-no-agent\n"
    install(host)
    assert b"magic" in started(host)
    (left,) = Path(host.workdir, "agent").iterdir()
    assert left.name == bundle.agent_name()


def test_two_launchers_install_at_once(host: Host) -> None:
    install(host)
    before = Path(host.workdir, "agent", bundle.agent_name()).stat().st_ino
    install(host)
    assert Path(host.workdir, "agent", bundle.agent_name()).stat().st_ino == before
