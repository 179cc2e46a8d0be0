"""Images as their authors made them, and as they change between runs, by real podman and bwrap."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, Ran, of_runs
from support.hosts import need_lab
from support.images import (
    bound,
    command_for,
    containers_on,
    has_static_busybox,
    podman_hosts,
    shared,
    write_image,
)
from support.lab import wait_until

pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.skipif(
        not all(map(shutil.which, ("podman", "crun"))) or not has_static_busybox(),
        reason="needs podman, crun and busybox-static "
        "(sh tests/support/install-system-packages.sh frameworks)",
    ),
]
#: All that an author can set, and that a run does not want.
ODD = {
    "Entrypoint": ["/usr/bin/false"],
    "Cmd": ["nothing"],
    "User": "1234:1234",
    "WorkingDir": "/nowhere/at/all",
    "Volumes": {"/var": {}, "/opt/data": {}},
    "StopSignal": "SIGKILL",
    "Healthcheck": {"Test": ["CMD", "false"], "Interval": 1000000000},
    "Env": [],
    "ExposedPorts": {"80/tcp": {}},
}
#: Counts the commands of podman that launcher starts on a host.
COUNTING = """#!/bin/sh
echo "$1" "$2" >>/tmp/podman.commands
exec /usr/bin/podman "$@"
"""


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    need_lab()
    with podman_hosts(tmp_path_factory.mktemp("lab"), shared()) as standing:
        yield standing


@pytest.fixture
def launcher(hosts: labs.Lab, tmp_path: Path) -> Iterator[Launcher]:
    with command_for(hosts, tmp_path) as made:
        yield made


def load(host: labs.LabHost, launcher: Launcher, name: str, **more: object) -> str:
    """Have a host's podman know an image; return its ID."""
    made = write_image(launcher.work / "x.tar", name, **more)  # type: ignore[arg-type]
    host.write("/tmp/x.tar", (launcher.work / "x.tar").read_bytes())
    host.run("podman", "load", "-i", "/tmp/x.tar")
    (launcher.work / "x.tar").unlink()
    return made


def inside(launcher: Launcher, image: str, *words: str, hosts: str = "lab1") -> Ran:
    """Run a command in an image that brings its own programs."""
    return launcher.run("--hosts", hosts, "--image", image, "--framework", "env", *words)


def test_a_warm_start_is_one_command_of_podman(launcher: Launcher, hosts: labs.Lab) -> None:
    """Only a change of the images has podman asked again, and a name that has moved is noticed."""
    host = hosts.hosts["lab1"]
    load(host, launcher, "warm:1", word="first", busybox=("sh", "true", "cat"))
    host.write("/usr/local/bin/podman", COUNTING.encode(), 0o755)
    try:
        for expected in (None, ["run --rm"], ["run --rm"]):
            host.run("rm", "-f", "/tmp/podman.commands")
            ran = inside(launcher, "warm:1", "cat", "/etc/inside")
            assert ran.code == 0, ran.err
            assert "first" in ran.out
            said = host.read("/tmp/podman.commands").decode().splitlines()
            assert expected in (None, said)
        load(host, launcher, "warm:1", word="second", busybox=("sh", "true", "cat"))
        ran = inside(launcher, "warm:1", "cat", "/etc/inside")
        assert "second" in ran.out, ran.err
        again = launcher.call("rerun", first_run(launcher))
        assert again.returncode == 0, again.stderr
        assert "first" in again.stdout
        host.run("podman", "rmi", "--all", "--force")
        ran = inside(launcher, "warm:1", "cat", "/etc/inside")
        assert "there is no image warm:1, and it cannot be pulled" in ran.err
        gone = launcher.call("rerun", first_run(launcher))
        assert "the run had warm:1 with ID" in gone.stderr
        assert "started" not in gone.stdout
    finally:
        host.run("rm", "-f", "/usr/local/bin/podman", "/tmp/podman.commands")


#: podman as a site may have it: a script that looks elsewhere once a file says so.
ELSEWHERE = """#!/bin/sh
exec /usr/bin/podman --root "$(cat /tmp/podman.root)" "$@"
"""


def test_what_podman_refuses_to_start_has_it_asked_again(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    """Nothing that is watched tells that podman looks elsewhere now."""
    host = hosts.hosts["lab1"]
    host.write("/usr/local/bin/podman", ELSEWHERE.encode(), 0o755)
    try:
        for place in ("second", "first"):
            host.write("/tmp/podman.root", f"/var/lib/containers/{place}".encode())
            load(host, launcher, "moved:1", word=place, busybox=("sh", "true", "cat"))
        assert "first" in inside(launcher, "moved:1", "cat", "/etc/inside").out
        host.write("/tmp/podman.root", b"/var/lib/containers/second")
        ran = inside(launcher, "moved:1", "cat", "/etc/inside")
        assert ran.code == 125, ran.out
        assert "likely: the image was there when the host was asked" in ran.err
        ran = inside(launcher, "moved:1", "cat", "/etc/inside")
        assert "second" in ran.out, ran.err
    finally:
        host.run("rm", "-f", "/usr/local/bin/podman", "/tmp/podman.root")


def first_run(launcher: Launcher) -> str:
    """Return the name of the first run here."""
    return min(
        launcher.home.glob("runs/*/run.json"), key=lambda file: file.stat().st_ctime
    ).parent.name


def test_what_an_author_has_set_changes_nothing(launcher: Launcher, hosts: labs.Lab) -> None:
    host = hosts.hosts["lab1"]
    load(host, launcher, "odd:1", busybox=("sh", "true", "id", "env", "wc"), config=ODD)
    envs = {f"LARGE_{number}": "x" * 1000 for number in range(300)}
    job = {
        "framework": "env",
        "hosts": "lab1",
        "environment": {"image": "odd:1"},
        "envs": envs,
        "run": ["sh", "show.sh"],
    }
    launcher.script("id -u; pwd; env | wc -c\n", "show.sh")
    (launcher.work / "job.yaml").write_text(json.dumps(job))
    ran = launcher.run("job.yaml")
    assert ran.code == 0, ran.err
    user, folder, size = ran.log("node-0.out").decode().splitlines()
    assert user == "0"
    assert folder.endswith(f"/runs/{ran.folder.name}/code")
    assert int(size) > 300_000
    assert not host.run("podman", "volume", "ls", "--quiet").stdout
    assert not containers_on(host)


def test_an_image_without_a_shell_is_named_before_anything_starts(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    load(hosts.hosts["lab1"], launcher, "bare:1", busybox=("true",))
    ran = inside(launcher, "bare:1", "true")
    assert ran.receipt["reason"] == "no-environment"
    assert "image bare:1: the image has no sh, by which programs are started" in ran.err
    check = launcher.call(
        "check", "-i", str(launcher.inventory), "--hosts", "lab1", "--job", str(job_of(launcher))
    )
    assert "IMAGE-SHELL" in check.stdout, check.stderr
    assert not containers_on(hosts.hosts["lab1"])


def test_what_keeps_one_host_from_an_image_is_said_before_another_gets_it(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    load(hosts.hosts["lab2"], launcher, "bare:2", busybox=("true",))
    ran = inside(launcher, "bare:2", "true", hosts="lab[1-2]")
    assert "lab2: image bare:2: the image has no sh" in ran.err, ran.err
    assert not hosts.hosts["lab1"].run("podman", "images", "--quiet", "bare:2").stdout


@pytest.mark.parametrize("does", ["exit 0", "echo broken >&2; exit 1", "echo hello"])
def test_a_python_that_does_not_work_is_none(
    launcher: Launcher, hosts: labs.Lab, does: str
) -> None:
    """Not every program needs it."""
    script = f"#!/bin/sh\n{does}\n"
    load(hosts.hosts["lab1"], launcher, "odd:3", busybox=("sh", "true", "cat"), python=script)
    ran = inside(launcher, "odd:3", "cat", "/etc/inside")
    assert ran.code == 0, ran.err
    assert not containers_on(hosts.hosts["lab1"])


def job_of(launcher: Launcher) -> Path:
    place = launcher.work / "bare.yaml"
    job = {"framework": "env", "environment": {"image": "bare:1"}, "run": "true"}
    place.write_text(json.dumps(job))
    return place


def test_a_volume_of_an_image_is_not_left_by_a_podman_that_was_killed(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    host = hosts.hosts["lab1"]
    load(host, launcher, "odd:2", busybox=("sh", "true", "sleep"), config=ODD)
    began = launcher.start(
        "--hosts", "lab1", "--image", "odd:2", "--framework", "env", "sleep", "3003"
    )
    wait_until(lambda: asleep(host, "3003"), "it sleeps")
    (client,) = [p.pid for p in host.processes() if p.argv[:2] == ["/usr/bin/podman", "run"]]
    host.run("kill", "-9", str(client))
    began.communicate(timeout=60)
    wait_until(lambda: not of_runs(host), "nothing is left")
    assert not containers_on(host)
    assert not host.run("podman", "volume", "ls", "--quiet").stdout


def asleep(host: labs.LabHost, seconds: str) -> bool:
    """Return whether a sleep of so many seconds goes on."""
    return any(process.argv[-2:] == ["sleep", seconds] for process in host.processes())


def test_a_run_that_begins_again_is_in_its_image_and_two_ctrl_c_leave_nothing(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    host = hosts.hosts["lab1"]
    load(host, launcher, "again:1", busybox=("sh", "true", "cat", "sleep"))
    launcher.script(
        'cat /etc/inside; [ "$LAUNCHER_ATTEMPT" = 1 ] || exit 9; trap "" INT TERM; sleep 3004; true\n',
        "show.sh",
    )
    began = launcher.start(
        *("--hosts", "lab1", "--image", "again:1", "--framework", "env", "--max-restarts", "1"),
        *("sh", "show.sh"),
    )
    wait_until(lambda: asleep(host, "3004"), "the second attempt sleeps")
    began.send_signal(signal.SIGINT)
    (folder,) = launcher.home.glob("runs/*")
    wait_until(lambda: b"StopRequested" in events(folder), "it is asked to stop")
    began.send_signal(signal.SIGINT)
    began.communicate(timeout=60)
    for attempt in (0, 1):
        assert (folder / f"logs/attempt-{attempt}/node-0.out").read_bytes() == b"inside\n"
    wait_until(lambda: not of_runs(host) and not asleep(host, "3004"), "nothing is left")
    assert not containers_on(host)


def events(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.glob("*.jsonl"))


def test_stdin_and_data_sets_reach_a_program_in_an_image(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    load(hosts.hosts["lab1"], launcher, "data:1", busybox=("sh", "true", "cat"))
    (launcher.work / "set").mkdir()
    (launcher.work / "set/one").write_text("of the set\n")
    job = {
        "framework": "env",
        "hosts": "lab1",
        "environment": {"image": "data:1"},
        "data": {"set": "./set"},
        "run": ["sh", "show.sh", "{{data.set}}"],
    }
    (launcher.work / "job.yaml").write_text(json.dumps(job))
    launcher.script('cat "$1/one"; cat\n', "show.sh")
    began = subprocess.run(
        [*launcher.argv("--stdin", "job.yaml")],
        cwd=launcher.work,
        env=launcher.environment(),
        input=b"of me\n",
        capture_output=True,
        timeout=180,
        check=False,
    )
    out, err = began.stdout, began.stderr
    assert began.returncode == 0, err
    assert b"of the set" in out
    assert b"of me" in out


def test_an_image_that_lacks_what_a_job_needs_is_told_by_its_name(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    load(hosts.hosts["lab1"], launcher, "small:1", busybox=("sh", "true", "cat"))
    launcher.script("print('never')\n")
    for lacks, words in (
        ("python3", ("--framework", "torch", "train.py")),
        ("bash", ("--framework", "env", "echo never; true")),
        ("bash", ("--framework", "env", "--setup", "true", "true", "x")),
    ):
        ran = launcher.run("--hosts", "lab1", "--image", "small:1", *words)
        assert ran.code == 127, (words, ran.err)
        assert f"likely: the image has no {lacks}\n" in ran.err, ran.err
        assert "never" not in ran.out
    load(hosts.hosts["lab1"], launcher, "py:1")
    mounts = [word for path in bound() for word in ("--mount", path)]
    show = ("--hosts", "lab1", "--image", "py:1", *mounts, "--framework", "deepspeed", "train.py")
    ran = launcher.run(*show)
    assert ran.receipts[-1]["reason"] == "framework-missing"
    assert "needs deepspeed, which image py:1 does not have\n" in ran.err, ran.err
    assert "add it in the Dockerfile of this one" in " ".join(ran.err.split())


def test_what_goes_not_with_an_image_is_said_at_once(launcher: Launcher) -> None:
    launcher.script("print('never')\n")
    show = ("--hosts", "lab1", "--image", "x:1")
    for words in (("--uv", "."), ("--conda", "train"), ("--preload", "torch")):
        ran = launcher.run(*show, *words, "train.py")
        assert ran.code == 2, (words, ran.err)
        assert not (launcher.home / "runs").exists()


def test_a_host_that_lost_the_image_between_two_attempts(
    launcher: Launcher, hosts: labs.Lab
) -> None:
    """The next attempt fails in podman's words, and leaves nothing."""
    host = hosts.hosts["lab1"]
    load(host, launcher, "lost:1", busybox=("sh", "true", "cat", "sleep"))
    launcher.script("while ! cat /tmp/go-on 2>/dev/null; do sleep 0.1; done; exit 9\n", "show.sh")
    host.run("rm", "-f", "/tmp/go-on")
    began = launcher.start(
        *("--hosts", "lab1", "--image", "lost:1", "--framework", "env", "--max-restarts", "1"),
        *("sh", "show.sh"),
    )
    wait_until(lambda: "launcher-" in containers_on(host), "it runs")
    host.run("podman", "rmi", "--force", "lost:1", check=False)
    host.write("/tmp/go-on", b"")
    _, err = began.communicate(timeout=90)
    assert began.returncode != 0
    assert b"Traceback" not in err
    assert not containers_on(host)
    assert not of_runs(host)
