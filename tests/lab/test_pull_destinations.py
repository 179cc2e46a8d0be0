"""The folder of a user to which ``launcher pull`` brings files, and what comes there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from lab.test_budget import HOST_ROOT
from launcher.records.run_reader import RunReader
from support import lab as labs
from support.command import Launcher, follower

#: Where a user may want the files, below the work folder: names that rsync reads in its own way.
FOLDERS = ("host:10-30", "-x", "a b/new\nline", "~", "#d")


def test_any_folder_can_be_the_destination(launcher: Launcher, clean: labs.Lab) -> None:
    words = ("--hosts", "lab1", "--framework", "env", "--keep-on-host", "*")
    assert launcher.run(*words, "--", "sh", "-c", 'echo 1 >"$LAUNCHER_OUTPUT_DIR/a"').code == 0
    for name in FOLDERS:
        pulled = launcher.call("pull", "-", "--only", "*", "--", name)
        assert pulled.returncode == 0, pulled.stderr
        assert (launcher.work / name / "outputs" / "a").read_text() == "1\n"
    host, inventory = clean.hosts["lab1"], str(launcher.inventory)
    for name in FOLDERS[:2]:
        to = ("--hosts", "lab1", "--to", f"/tmp/{name}")
        pushed = launcher.call("push", "-i", inventory, *to, "--", name)
        assert pushed.returncode == 0, pushed.stderr
        assert host.read(f"/tmp/{name}/outputs/a") == b"1\n"


def test_what_was_not_asked_for_is_not_missed(launcher: Launcher, clean: labs.Lab) -> None:
    """A link to elsewhere that no pattern names made each such pull a failure."""
    script = (
        'cd "$LAUNCHER_OUTPUT_DIR" && echo 1 >a.json && ln -s /etc/passwd users.txt && mkfifo p'
    )
    ran = launcher.run("--hosts", "lab1", "--framework", "env", "--", "sh", "-c", script)
    pulled = launcher.call("pull", ran.folder.name, "dest", "--only", "*.json")
    assert (pulled.returncode, "left there" in pulled.stderr) == (0, False), pulled.stderr
    pulled = launcher.call("pull", ran.folder.name, "dest", "--only", "*.txt")
    assert pulled.returncode == 1
    assert "users.txt was left there" in pulled.stderr


def test_what_was_pulled_into_the_workdir_is_no_code(launcher: Launcher, clean: labs.Lab) -> None:
    """The next run would take each host's files along, beside those in outputs/."""
    script = launcher.script("import os\nopen(os.environ['LAUNCHER_OUTPUT_DIR'] + '/a', 'w')\n")
    words = ("--hosts", "lab1", "--framework", "env")
    assert launcher.run(*words, script).code == 0
    assert launcher.call("pull", "-", "results").returncode == 0
    ran = launcher.run(*words, "--", "find", "results", "-path", "*.launcher*")
    assert (ran.code, ran.out) == (0, "")


def test_what_cannot_be_a_destination_is_named(launcher: Launcher, clean: labs.Lab) -> None:
    ran = launcher.run("--hosts", "lab1", "--framework", "env", "--", "true")
    (launcher.work / "file").touch()
    (launcher.work / "nowhere").symlink_to("gone")
    (launcher.work / "taken").mkdir()
    (launcher.work / "taken" / "outputs").touch()
    for dest, way in (
        ("file", "file"),
        ("file/x", "file"),
        ("nowhere", "nowhere"),
        ("taken", "taken/outputs"),
    ):
        pulled = launcher.call("pull", ran.folder.name, dest)
        assert pulled.returncode == 2, dest
        assert f"error: DEST cannot be {dest}: {way} is no folder\n" in pulled.stderr
        assert "room" not in pulled.stderr
    (launcher.work / "own").symlink_to(ran.folder)
    for own in (str(ran.folder), "own", str(ran.folder / "outputs")):
        pulled = launcher.call("pull", ran.folder.name, own)
        assert pulled.returncode == 2
        assert f"error: DEST cannot be {own}: the run itself is there\n" in pulled.stderr
    assert not (ran.folder / ".launcher").exists()
    pulled = launcher.call("pull", ran.folder.name, "/proc/x")
    assert (pulled.returncode, "room" in pulled.stderr) == (125, False), pulled.stderr


#: A log that grows, and checkpoints that live for a moment.
BUSY = """
import os, pathlib, time
os.chdir(os.environ["LAUNCHER_OUTPUT_DIR"])
pathlib.Path("model").write_bytes(os.urandom(2_000_000))
number = 0
with open("train.log", "a") as log:
    while not os.path.exists("/tmp/end"):
        print("line", number, file=log, flush=True)
        pathlib.Path(f"ckpt{number}").write_bytes(bytes(1000))
        pathlib.Path(f"ckpt{number - 30}").unlink(missing_ok=True)
        number += 1
        time.sleep(0.001)
"""


def test_a_run_that_goes_on_writing_is_pulled(launcher: Launcher, clean: labs.Lab) -> None:
    """What it deleted or wrote meanwhile was said to be missing, at each pull."""
    host = clean.hosts["lab1"]
    words = ("--hosts", "lab1", "--framework", "env", "--pull-every", "1s")
    running = launcher.start(*words, launcher.script(BUSY))
    try:
        labs.wait_until(lambda: any(launcher.home.glob("runs/*/outputs/model")), "a pull", 30)
        for _ in range(3):
            pulled = launcher.call("pull", "-", "dest", "--max-rate", "8MB/s")
            assert pulled.returncode == 0, pulled.stderr
            assert "NOT brought" not in pulled.stderr
        assert (launcher.work / "dest/outputs/train.log").stat().st_size > 0
    finally:
        host.write("/tmp/end", b"")
        _, said = running.communicate(timeout=60)
        host.run("rm", "/tmp/end")
    assert running.returncode == 0, said.decode()
    assert b"not complete" not in said, said.decode()


def test_a_run_that_nobody_follows_is_pulled(launcher: Launcher, clean: labs.Lab) -> None:
    """Into the folder of the run, while it goes on writing."""
    host = clean.hosts["lab1"]
    words = ("--detach", "--hosts", "lab1", "--framework", "env", "--pull-every", "1h")
    ran = launcher.run(*words, launcher.script(BUSY))
    assert ran.code == 0, ran.err
    os.kill(follower(ran.folder), signal.SIGKILL)
    labs.wait_until(lambda: RunReader(ran.folder).follower() is None, "nobody to follow it", 10)
    for _ in range(3):
        pulled = launcher.call("pull", "-")
        assert pulled.returncode == 0, pulled.stderr
        assert "NOT brought" not in pulled.stderr
    host.write("/tmp/end", b"")
    attached = launcher.call("attach", "-")
    host.run("rm", "/tmp/end")
    assert attached.returncode == 0, attached.stderr


#: Starts a command with little room below DEST, then lists what came.
LITTLE_ROOM = 'mkdir -p dest && mount -t tmpfs -o size=40m none dest && "$@"; code=$?; ls dest/outputs; exit $code'


def test_what_fits_is_there_where_the_disk_is_full(launcher: Launcher, clean: labs.Lab) -> None:
    """Each host by itself has room; together they have not."""
    script = (
        'cd "$LAUNCHER_OUTPUT_DIR" && echo 1 >a-$LAUNCHER_HOST && head -c 30m /dev/urandom >big'
    )
    words = ("--hosts", "lab1,lab2", "--framework", "env", "--keep-on-host", "*")
    assert launcher.run(*words, "--", "sh", "-c", script).code == 0
    pull = [sys.executable, "-m", "launcher", "pull", "-", "dest", "--only", "*"]
    pulled = subprocess.run(
        ["unshare", "--mount", "sh", "-c", LITTLE_ROOM, "sh", *pull],
        cwd=launcher.work,
        env=launcher.environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert pulled.returncode == 1, pulled.stderr
    assert {"a-lab1", "a-lab2"} <= set(pulled.stdout.split()), pulled.stderr
    assert "No space left on device" in pulled.stderr


CHANGING = """
cd "$LAUNCHER_OUTPUT_DIR"
mkdir folder && echo 1 >folder/a && echo 1 >file && echo 1 >version
until test -e /tmp/next; do sleep 0.02; done
rm -r folder file && echo 2 >folder && mkdir file && echo 2 >file/a && echo 2 >version
touch /tmp/done
until test -e /tmp/end; do sleep 0.02; done
"""


def test_files_that_become_folders_and_folders_that_become_files(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """The first ones were never brought; for the others, a pull into a folder ended at once. One that
    cannot reach the host leaves what is newer in that folder than in the run's."""
    host = clean.hosts["lab1"]
    words = ("--hosts", "lab1", "--framework", "env", "--pull-every", "1h")
    running = launcher.start(*words, "--", "sh", "-c", CHANGING)
    try:
        labs.wait_until(
            lambda: any(host.path(HOST_ROOT).glob("runs/*/outputs/version")), "files", 30
        )
        for dest in ([], ["dest"]):
            assert launcher.call("pull", "-", *dest).returncode == 0
        (before,) = launcher.home.glob("runs/*/outputs")
        assert (before / "version").read_text() == "1\n"
        host.write("/tmp/next", b"")
        labs.wait_until(lambda: host.exists("/tmp/done"), "the change", 20)
        after = launcher.work / "dest" / "outputs"
        pulled = launcher.call("pull", "-", "dest")
        assert pulled.returncode == 0, pulled.stderr
        _has_changed(after)
        host.stop_sshd()
        try:
            unreached = launcher.call("pull", "-", "dest")
        finally:
            host.start_sshd()
        assert unreached.returncode == 1, unreached.stderr
        _has_changed(after)
    finally:
        for name in ("next", "end"):
            host.write(f"/tmp/{name}", b"")
        _, said = running.communicate(timeout=60)
        host.run("rm", "-f", "/tmp/next", "/tmp/done", "/tmp/end")
    assert running.returncode == 0, said.decode()
    _has_changed(before)
    assert launcher.call("pull", "-", "dest").returncode == 0
    _has_changed(after)


def _has_changed(outputs: Path) -> None:
    files = [path for path in outputs.rglob("*") if path.is_file()]
    texts = {path.relative_to(outputs).as_posix(): path.read_text() for path in files}
    assert texts == {"folder": "2\n", "file/a": "2\n", "version": "2\n"}
