"""A launcher that is killed leaves no ssh of its own on this machine."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, wait_for

ONE = (labs.HostSpec("lab1"),)


@pytest.fixture
def place() -> Iterator[Path]:
    """A place for temporary files, with a path that is short enough for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("own", [ONE], indirect=True)
def test_its_logins_end_with_it(
    own: labs.Lab, launcher: Launcher, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(place))
    monkeypatch.setattr(labs, "transport", "openssh")
    launcher.inventory.write_text(labs.inventory(own, "/usr/bin/python3"))
    command = "echo started; exec sleep 7919"
    process = launcher.start("--framework", "env", command)
    runs = launcher.home / "runs"
    labs.wait_until(lambda: runs.exists() and any(runs.iterdir()), "a run")
    (run,) = runs.iterdir()
    wait_for(run / "logs" / "attempt-0" / "node-0.out", b"started", process)
    (left,) = place.glob("launcher-login-*")
    assert _ssh(left)
    process.kill()
    process.communicate()
    labs.wait_until(lambda: not _ssh(left), "no ssh of a launcher that is gone")
    stopped = launcher.call("stop", "--grace", "0s", run.name)
    assert stopped.returncode in (0, 130), stopped.stderr
    assert not list(place.glob("launcher-login-*")), "the next one clears its folder away"


def _ssh(folder: Path) -> list[bytes]:
    """Processes with this folder on their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it ends while we look
            found.append(path.read_bytes())
    return [command for command in found if bytes(folder) in command]
