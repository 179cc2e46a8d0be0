"""The release before this one and this one on the same runs: attached, stopped, pulled and shown."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from support import ROOT, releases
from support import lab as labs
from support.command import Launcher, follower, of_runs

PREVIOUS = "0.1"
pytestmark = pytest.mark.usefixtures("by_asyncssh")  # the previous release has no other transport

SCRIPT = """
import os, pathlib, sys, time
rank, attempt = os.environ["RANK"], os.environ["LAUNCHER_ATTEMPT"]
pathlib.Path(os.environ["LAUNCHER_OUTPUT_DIR"], f"{rank}.txt").write_text(rank)
print("attempt", attempt, flush=True)
number = 0
while not (end := pathlib.Path("/tmp/end")).exists():
    print(f"line {rank} {number}", flush=True)
    number += 1
    time.sleep(0.02)
code = int(end.read_text() or 0)
if attempt == "0" and code == 9:
    end.unlink(missing_ok=True)
    sys.exit(code)
sys.exit(0 if code == 9 else code)
"""


@pytest.fixture(scope="session")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The previous release, as it was."""
    folder = tmp_path_factory.mktemp("previous")
    if trouble := releases.unpack(PREVIOUS, folder):
        pytest.skip(trouble)
    return folder


@pytest.fixture
def old(launcher: Launcher, unpacked: Path) -> Launcher:
    """The previous release on the same machine, as the same user."""
    return replace(launcher, env={"PYTHONPATH": str(unpacked)})


@pytest.fixture(autouse=True)
def _going_on(clean: labs.Lab) -> None:
    for host in _hosts(clean):
        host.run("rm", "-f", "/tmp/end")


def _hosts(lab: labs.Lab) -> list[labs.LabHost]:
    return [lab.hosts["lab1"], lab.hosts["lab2"]]


def _end(lab: labs.Lab, code: int = 0) -> None:
    for host in _hosts(lab):
        host.write("/tmp/end", str(code).encode())


def _begun(by: Launcher, *options: str) -> Path:
    """A run on two hosts that goes on, with a follower of that version; its folder."""
    words = ["--nodes", "2", "--framework", "torch", "--grace", "2s", *options]
    ran = by.run("--detach", *words, by.script(SCRIPT))
    assert ran.code == 0, ran.err
    log = ran.folder / "logs" / "attempt-0" / "rank-0.out"
    labs.wait_until(lambda: log.exists() and log.read_bytes().count(b"\n") > 5, "lines", 30)
    return ran.folder


def _has_lines(by: Launcher, log: str, count: int) -> bool:
    """Whether a run has printed more than so many lines to a log."""
    logs = (by.home / "runs").glob(f"*/logs/*/{log}")
    return any(file.read_bytes().count(b"\n") > count for file in logs)


def _leave(folder: Path) -> None:
    """Its follower is killed: the supervisors go on."""
    pid = follower(folder)
    os.kill(pid, signal.SIGKILL)
    labs.wait_until(lambda: not _is_followed(pid), "the follower to be gone", 10)


def _is_followed(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _receipt(folder: Path) -> dict[str, object]:
    value: dict[str, object] = json.loads((folder / "receipt.json").read_text())
    return value


def _is_shown(by: Launcher, run: str, status: str, wants: str = "") -> None:
    """Listed and shown, with its logs."""
    (listed,) = json.loads(by.call("ls", "--json").stdout)
    assert (listed["run"], listed["status"]) == (run, status)
    shown = by.call("show", run)
    assert (shown.returncode, status in shown.stdout) == (0, True), shown.stderr
    assert wants in shown.stdout
    logs = by.call("logs", run, "--ranks", "0")
    assert (logs.returncode, "line 0 0" in logs.stdout) == (0, True), logs.stderr


# -- this version, with what the previous one has started


def test_a_run_that_the_previous_release_follows(
    launcher: Launcher, old: Launcher, clean: labs.Lab
) -> None:
    """Shown, pulled and stopped: its own follower does it, and its receipt is read."""
    folder = _begun(old)
    assert json.loads((folder / "run.json").read_text())["launcher"].startswith(PREVIOUS)
    _is_shown(launcher, folder.name, "running")
    pulled = launcher.call("pull", folder.name)
    assert pulled.returncode == 0, pulled.stderr
    assert (folder / "outputs" / "1.txt").read_text() == "1"
    stopped = launcher.call("stop", folder.name, "--grace", "1s")
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped (by-user)" in stopped.stderr
    _is_shown(launcher, folder.name, "stopped", "by-user")


def test_a_run_of_the_previous_release_is_attached_to_and_started_again(
    launcher: Launcher, old: Launcher, clean: labs.Lab
) -> None:
    """Its supervisors are of the previous release; after the failure they are of this one."""
    folder = _begun(old, "--max-restarts", "1")
    _leave(folder)
    _end(clean, 9)
    labs.wait_until(lambda: not any(map(of_runs, _hosts(clean))), "the end of the attempt", 20)
    _end(clean, 9)
    attached = launcher.call("attach", folder.name)
    assert attached.returncode == 0, attached.stderr
    assert _receipt(folder)["status"] == "succeeded"
    for rank in "01":
        log = folder / "logs" / "attempt-1" / f"rank-{rank}.out"
        assert log.read_text().startswith("attempt 1\n")
    _is_shown(launcher, folder.name, "succeeded")


def test_a_run_of_the_previous_release_is_stopped_through_its_supervisors(
    launcher: Launcher, old: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """From another machine, which knows of it from its hosts alone."""
    folder = _begun(old)
    _leave(folder)
    elsewhere = replace(launcher, home=tmp_path / "elsewhere")
    stopped = elsewhere.call("stop", folder.name, "-i", str(launcher.inventory), "--grace", "1s")
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped (by-user)" in stopped.stderr
    _is_shown(elsewhere, folder.name, "stopped", "by-user")
    assert not any(map(of_runs, _hosts(clean)))
    attached = launcher.call("attach", folder.name)
    assert attached.returncode == 130, attached.stderr


# -- the previous release, with what this one has started


def test_a_run_of_this_version_that_the_previous_release_stops(
    launcher: Launcher, old: Launcher, clean: labs.Lab
) -> None:
    """It is listed, shown and stopped there; the receipt is one of this version."""
    folder = _begun(launcher)
    _is_shown(old, folder.name, "running")
    old.call("stop", folder.name, "--grace", "1s")
    labs.wait_until((folder / "receipt.json").exists, "the receipt", 20)
    assert _receipt(folder)["status"] == "stopped"
    _is_shown(old, folder.name, "stopped", "by-user")


def test_a_run_of_this_version_that_the_previous_release_takes_up(
    launcher: Launcher, old: Launcher, clean: labs.Lab
) -> None:
    """Its relays talk to supervisors of this version, to the end of the run."""
    folder = _begun(launcher)
    _leave(folder)
    _end(clean, 3)
    attached = old.call("attach", folder.name)
    assert attached.returncode == 3, attached.stderr
    assert "failed (exit-3)" in attached.stderr
    for by in (launcher, old):
        _is_shown(by, folder.name, "failed", "exit-3")


def test_a_run_that_the_previous_release_cannot_read_is_refused_there(
    launcher: Launcher, old: Launcher, clean: labs.Lab
) -> None:
    """A job with roles: their keys have other names now. It says so in a sentence."""
    (launcher.work / "job.yaml").write_text(
        "framework: env\nhosts: lab1\nroles: {boss: {primary: true, run: exit 3}}\n"
    )
    ran = launcher.run("job.yaml")
    assert ran.code == 3, ran.err
    refused = old.call("show", ran.folder.name)
    assert refused.returncode == 2
    assert "cannot be taken up" in refused.stderr
    (listed,) = json.loads(old.call("ls", "--json").stdout)
    assert listed["status"] == "failed"


# -- this version, upgraded in its place


GOES_ON = """
import os, time
attempt = os.environ["LAUNCHER_ATTEMPT"]
print("attempt", attempt, "on", os.environ["LAUNCHER_HOST"], flush=True)
while attempt == "0":
    print("line", flush=True)
    time.sleep(0.01)
"""


def test_a_spare_joins_a_run_whose_launcher_was_upgraded_meanwhile(
    own: labs.Lab, launcher: Launcher, tmp_path: Path
) -> None:
    """The spare has no agent of the version that follows the run, and its files are gone here."""
    place = tmp_path / "installed"
    shutil.copytree(ROOT / "launcher", place / "launcher")
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    by = replace(launcher, env={"PYTHONPATH": str(place)})
    labs.wait_until(lambda: _is_known(by), "an agent that the next command need not read", 20)
    words = ("--nodes", "1", "--framework", "env", "--lost-after", "2s", "--max-restarts", "1")
    process = by.start(*words, by.script(GOES_ON))
    try:
        labs.wait_until(
            lambda: process.poll() is not None or _has_lines(launcher, "node-0.out", 100),
            "a run that goes on",
            30,
        )
        assert process.poll() is None, process.communicate()
        changed = place / "launcher" / "agent" / "__init__.py"
        changed.write_text(f"{changed.read_text()}# a later version\n")
        own.hosts["lab1"].stop_sshd()
        own.hosts["lab1"].kill_sshd_sessions()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err.decode()
    assert b"attempt 1 on lab2" in out


def _is_known(by: Launcher) -> bool:
    """Run something on the first host: it gets the agent, whose name is noted if its files are not new."""
    assert by.run("--hosts", "lab1", "--framework", "env", "--", "true").code == 0
    return (by.home / "agent-name.json").exists()


def test_a_run_whose_launcher_was_removed_meanwhile_ends_as_it_does(
    launcher: Launcher, clean: labs.Lab, tmp_path: Path
) -> None:
    """As when an environment is made anew: what the end needs is imported by then."""
    place = tmp_path / "installed"
    shutil.copytree(ROOT / "launcher", place / "launcher")
    by = replace(launcher, env={"PYTHONPATH": str(place)})
    process = by.start("--hosts", "lab1", "--framework", "torch", by.script(SCRIPT))
    try:
        labs.wait_until(lambda: _has_lines(launcher, "rank-0.out", 150), "a run that goes on", 30)
        shutil.rmtree(place)
        _end(clean, 3)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 3, err.decode()
    assert b"failed (exit-3)" in err
    assert b"Traceback" not in err, err.decode()
    assert (_folder(by) / "outputs" / "0.txt").read_text() == "0"


def _folder(by: Launcher) -> Path:
    (folder,) = (by.home / "runs").iterdir()
    return folder
