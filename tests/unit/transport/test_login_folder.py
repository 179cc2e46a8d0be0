"""The folder of a login by OpenSSH is there while the login is, and not longer."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.transport.login_folder import LoginFolder
from support import ROOT

KILLED = """
import os, signal
from launcher.transport.login_folder import LoginFolder
folder = LoginFolder("")
print(folder.path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


def test_it_is_private_and_gone_afterwards(place: Path) -> None:
    folder = LoginFolder("Host gpu1\n")
    assert Path(folder.config).read_text() == "Host gpu1\n"
    assert os.stat(folder.path).st_mode & 0o777 == 0o700
    folder.remove()
    folder.remove()
    assert not list(place.iterdir())


def test_one_of_a_launcher_that_was_killed_is_removed_by_the_next(place: Path) -> None:
    env = {**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", KILLED], env=env, capture_output=True, text=True, check=False
    )
    left = Path(killed.stdout.strip())
    assert left.parent == place
    assert left.is_dir()
    one, other = LoginFolder(""), LoginFolder("")
    assert not left.exists()
    assert Path(one.path).is_dir(), "one in use stays"
    one.remove()
    other.remove()


def test_what_others_made_stays(place: Path) -> None:
    (place / "launcher-login-of-another").write_text("")
    (place / "launcher-login-linked").symlink_to(place / "nowhere")
    LoginFolder("").remove()
    assert len(list(place.iterdir())) == 2


def test_a_long_path_leaves_room_for_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folder = LoginFolder("")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(folder.socket + "." + 16 * "y")
    folder.remove()
