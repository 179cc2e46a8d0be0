"""Runs that nobody follows, as after a reboot: `ls` tells the truth of them, and has them followed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from launcher.records.run_lock import holder
from support import lab as labs
from support.command import Launcher, of_runs, wait_for

#: Runs until it is told to end, each run by a file of its own; fails once if it is told to.
WAITS = """
import os, pathlib, sys, time
own = "/tmp/" + os.environ["WHICH"]
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], "result").write_text("42")
while not os.path.exists(own + ".end"):
    if os.path.exists(own + ".fail"):
        os.unlink(own + ".fail")
        sys.exit(9)
    time.sleep(0.05)
sys.exit(int(pathlib.Path(own + ".end").read_text() or 0))
"""


def _detached(launcher: Launcher, which: str, *words: str) -> Path:
    name = launcher.script(WAITS)
    words = ("--name", which, "-e", f"WHICH={which}", "--framework", "torch", *words, name)
    left = launcher.run("--detach", "--grace", "2s", *words)
    assert left.code == 0, left.err
    (folder,) = (launcher.home / "runs").glob(f"{which}-*")
    return folder


def _reboot(*folders: Path) -> None:
    """No process follows these runs any more, and none could say so."""
    for folder in folders:
        pid = holder(folder)
        assert pid
        os.kill(pid, signal.SIGKILL)
        labs.wait_until(partial(_has_other, folder, pid), "the follower's end", 20)


def _has_other(folder: Path, pid: int) -> bool:
    """Whether a process no longer follows a run: another one may do at once."""
    return holder(folder) != pid


def _listed(launcher: Launcher, folder: Path, *words: str) -> dict[str, Any]:
    listed = json.loads(launcher.call("ls", "--json", *words).stdout)
    (found,) = [run for run in listed if run["run"] == folder.name]
    return found  # type: ignore[no-any-return]


def _until_listed(launcher: Launcher, folder: Path, **values: object) -> None:
    labs.wait_until(
        lambda: values.items() <= _listed(launcher, folder).items(), f"{values} in ls", 60
    )


def _gone(host: labs.LabHost, folder: Path) -> bool:
    return folder.name not in {p.environ["LAUNCHER_RUN_ID"] for p in of_runs(host)}


def test_ls_follows_runs_again(launcher: Launcher, clean: labs.Lab) -> None:
    """It says what ended meanwhile, with outputs and receipt, and keeps the others up to date."""
    host = clean.hosts["lab1"]
    host.run("sh", "-c", "rm -f /tmp/night.end /tmp/days.end")
    night = _detached(launcher, "night", "--hosts", "lab1")
    days = _detached(launcher, "days", "--hosts", "lab[1-2]")
    _reboot(night, days)
    host.write("/tmp/night.end", b"3")
    labs.wait_until(lambda: _gone(host, night), "the run to end", 30)

    for folder in (night, days):
        old = _listed(launcher, folder, "--no-refresh")
        assert (old["status"], old["followed"], old["refreshed"]) == ("running", False, False)
    assert holder(days) is None

    labs.wait_until(lambda: (night / "receipt.json").exists() or _asked(launcher), "a receipt", 60)
    _until_listed(launcher, night, status="failed", reason="exit-3", refreshed=True)
    assert (night / "outputs" / "result").read_text() == "42"
    _until_listed(launcher, days, status="running", followed=True, refreshed=True)

    for name in ("lab1", "lab2"):
        clean.hosts[name].write("/tmp/days.end", b"")
    _until_listed(launcher, days, status="succeeded")
    assert "again" not in launcher.call("ls").stderr, "what is over is not followed again"


def _asked(launcher: Launcher) -> bool:
    launcher.call("ls")
    return False


def test_a_silent_host_never_ends_a_run(launcher: Launcher, own: labs.Lab) -> None:
    """A follower gives up silent hosts: none is sent to a run before all of its hosts have answered."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    near, far = own.hosts["lab1"], own.hosts["lab2"]
    folder = _detached(launcher, "days", "--nodes", "2", "--lost-after", "1s")
    _reboot(folder)
    far.unplug()
    told = launcher.call("ls")
    assert "running (not followed)" in told.stdout
    assert folder.name in told.stderr
    assert "not followed, as last known" in told.stderr
    with _service(launcher) as (service, log):
        wait_for(log, b"lab2: ", service)
        assert holder(folder) is None
    assert _listed(launcher, folder)["refreshed"] is False
    assert "launcher attach" not in told.stderr, "attach would give the host up"
    assert of_runs(near), "the run is going on"
    assert not (folder / "receipt.json").exists()

    far.plug()
    _until_listed(launcher, folder, followed=True, refreshed=True)
    for host in (near, far):
        host.write("/tmp/days.end", b"")
    _until_listed(launcher, folder, status="succeeded")


@contextmanager
def _service(launcher: Launcher) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """`launcher follow --all`, and the file that it writes to; it lets go at the end."""
    log = launcher.home / "service.log"
    with log.open("wb") as stream:
        service = subprocess.Popen(
            [sys.executable, "-m", "launcher", "follow", "--all"],
            env=launcher.environment(),
            stdin=subprocess.DEVNULL,
            stderr=stream,
        )
    try:
        yield service, log
        service.send_signal(signal.SIGTERM)
        assert service.wait(180) == 0, log.read_text()
    finally:
        service.kill()
        service.wait()


def test_the_service_follows_every_run(launcher: Launcher, clean: labs.Lab) -> None:
    """Those that are left when it starts and later, through restarts, until SIGTERM: it lets go."""
    host = clean.hosts["lab1"]
    host.run("sh", "-c", "rm -f /tmp/early.* /tmp/late.*")
    early = _detached(launcher, "early", "--hosts", "lab1", "--max-restarts", "1")
    _reboot(early)
    with _service(launcher) as (service, log):
        wait_for(log, f"{early.name}: followed again".encode(), service)
        late = _detached(launcher, "late", "--hosts", "lab1")
        assert holder(late) != service.pid, "a run that is followed is left to its follower"
        _reboot(late)
        wait_for(log, f"{late.name}: followed again".encode(), service)
        labs.wait_until(lambda: holder(late) == service.pid, "it to follow the run", 30)
        host.write("/tmp/early.fail", b"")
        labs.wait_until(
            lambda: '"RunRestarted"' in (early / "events.jsonl").read_text(), "a restart", 60
        )
        host.write("/tmp/late.end", b"4")
        wait_for(log, f"{late.name}: failed (exit-4)".encode(), service)
    assert "let go of 1 run" in log.read_text()
    assert holder(early) is None
    assert not _gone(host, early), "it goes on"
    host.write("/tmp/early.end", b"")
    assert launcher.call("wait", early.name).returncode == 0
