"""Images of Dockerfiles by a real podman: here, or on a host; once; what fails, and what is left."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, end_followers
from support.hosts import need_lab
from support.images import (
    containers_on,
    has_static_busybox,
    own_storage,
    podman_hosts,
    without_runtimes,
    write_root,
)
from support.lab import wait_until

pytestmark = [
    pytest.mark.frameworks,  # podman comes with these
    pytest.mark.skipif(
        shutil.which("podman") is None or not has_static_busybox(),
        reason="needs podman, and a busybox that is linked statically: "
        "sh tests/support/install-system-packages.sh frameworks",
    ),
    pytest.mark.timeout(400),
]
IMAGES = "/root/.launcher/host/images"
GOOD = "FROM scratch\nADD root.tar /\nCOPY . /etc/\nARG WORD=none\nRUN echo $WORD >/word\n"
#: A step that never ends, with a daemon of its own.
STUCK = "FROM scratch\nADD root.tar /\nRUN setsid sh -c '{0} & exec {0}' & {0}\n"
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    need_lab()
    with podman_hosts(tmp_path_factory.mktemp("lab")) as standing:
        yield standing


@pytest.fixture
def launcher(hosts: labs.Lab, tmp_path: Path) -> Iterator[Launcher]:
    """The command on a machine with podman, and a folder ``img`` with a Dockerfile."""
    (tmp_path / "inventory.yaml").write_text(labs.inventory(hosts, "/usr/bin/python3"))
    folder = tmp_path / "work" / "img"
    folder.mkdir(parents=True)
    write_root(folder / "root.tar")
    (folder / "Dockerfile").write_text(GOOD)
    (folder / ".dockerignore").write_text("root.tar\nDockerfile\n*.log\n!root.tar\n")
    (folder / "inside").write_text("one\n")
    storage = {**own_storage(tmp_path / "storage"), "BUILDAH_ISOLATION": "chroot"}
    work = tmp_path / "work"
    yield Launcher(tmp_path / "inventory.yaml", work, tmp_path / "home", storage)
    end_followers(tmp_path)
    for host in hosts.hosts.values():
        host.run("podman", "rm", "--force", "--time", "0", "--all")
        host.run("podman", "rmi", "--all", "--force")
        host.run("rm", "-rf", IMAGES)
    words = ("podman", "system", "reset", "--force")
    subprocess.run(words, env={**os.environ, **storage}, capture_output=True, check=False)


@pytest.fixture
def bare(launcher: Launcher, tmp_path: Path) -> Launcher:
    """The same on a machine without a container runtime."""
    return replace(launcher, env=without_runtimes(tmp_path / "bin"))


def run_words(*command: str, hosts: str = "lab[1-2]") -> tuple[str, ...]:
    return ("--hosts", hosts, "--image", "./img", "--framework", "env", *command)


def build(launcher: Launcher, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = launcher.call("image", "build", "img", *words, "-i", str(launcher.inventory))
    assert done.returncode == code, done.stdout + done.stderr
    return done


def processes(what: str) -> list[int]:
    """Return processes by a part of their command, also those of hosts: they are on this machine."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            argv = (place / "cmdline").read_bytes()
        except OSError:
            continue
        found += [int(place.name)] if what in argv.replace(b"\0", b" ").decode() else []
    return found


def working_containers(launcher: Launcher) -> str:
    words = ("podman", "ps", "--all", "--quiet", "--external")
    return subprocess.run(
        words, env=launcher.environment(), capture_output=True, text=True, check=True
    ).stdout


def test_an_image_is_built_here_once_and_has_its_files_and_arguments(launcher: Launcher) -> None:
    folder = launcher.work / "img"
    (folder / "noise.log").write_text("x\n")
    (folder / ".env").write_text("KEY=1\n")
    show = ("sh", "-c", "cat /etc/inside /word; echo /etc/*.log")
    first = launcher.run(*run_words("--build-arg", "WORD=two", *show))
    assert first.code == 0, first.err
    run = first.folder.name
    assert first.log("node-0.out") == b"one\ntwo\n/etc/*.log\n"
    assert "COPY may take .env into the image; list what should stay out in" in first.err
    assert "on this machine by podman in " in first.err
    assert ", brought to 2 hosts in " in first.err
    (folder / "noise.log").write_text("what is ignored may change\n")
    second = launcher.run(*run_words("--build-arg", "WORD=two", *show))
    assert second.code == 0, second.err
    assert "ago, and nothing has changed since" in second.err
    assert "built " not in second.err.replace("was built ", "")
    assert "may take .env" not in second.err
    (folder / "inside").write_text("three\n")
    value = json.loads(build(launcher, "--tag", "lab/train:2", "--json").stdout)
    assert (value["built"], value["on"], value["brought"]) == (
        True,
        "this machine",
        ["lab1", "lab2"],
    )
    assert Path(value["log"]).read_text().count("STEP ") >= 5
    listed = launcher.call("image", "ls", "-i", str(launcher.inventory)).stdout
    assert "lab/train:2" in listed
    again = launcher.call("rerun", run)
    assert again.returncode == 0, again.stderr
    assert "one" in again.stdout
    assert "built " not in again.stderr
    assert not working_containers(launcher)


def test_a_host_builds_where_this_machine_cannot(bare: Launcher, hosts: labs.Lab) -> None:
    folder = bare.work / "img"
    (folder / "noise.log").write_text("x\n")
    job = bare.work / "job.yaml"
    job.write_text("run: cat /etc/inside\nframework: env\nenvironment: {image: ./img}\n")
    words = ("check", "--no-pairs", "--job", str(job), "--json", "-i", str(bare.inventory))
    checked = json.loads(bare.call(*words).stdout)["findings"]
    said = [one["evidence"] for one in checked if one["code"] == "JOB-IMAGE"]
    assert "a run would build it, and bring it to podman" in said[0]
    ran = bare.run(*run_words("sh", "-c", "cat /etc/inside; echo /etc/*.log"))
    assert ran.code == 0, ran.err
    assert ran.log("node-1.out") == b"one\n/etc/*.log\n"
    assert "on lab1 by podman in " in ran.err
    assert ", brought to 1 host in " in ran.err
    (folder / "inside").write_text("two\n")
    build(bare)
    first = hosts.hosts["lab1"]
    sent = first.run("sh", "-c", f"cd {IMAGES}/context-* && ls -A && cat inside").stdout.decode()
    assert sent.split() == [".dockerignore", "inside", "root.tar", "two"]
    assert not first.run("sh", "-c", f"ls -d {IMAGES}/*.old {IMAGES}/build-*", check=False).stdout
    for host in hosts.hosts.values():
        host.run("podman", "rmi", "--all", "--force")  # all that was built is gone
    value = json.loads(build(bare, "--json").stdout)
    assert (value["built"], value["on"]) == (True, "lab1")
    pruned = bare.call("prune", "-i", str(bare.inventory), "--older", "0s", "-y")
    assert pruned.returncode == 0, pruned.stderr
    assert not first.run("sh", "-c", f"ls -d {IMAGES}/context-*", check=False).stdout


def test_what_fails_is_said_with_its_line_and_leaves_nothing(
    launcher: Launcher, bare: Launcher, hosts: labs.Lab
) -> None:
    file = launcher.work / "img" / "Dockerfile"
    file.write_text("FROM scratch\nADD root.tar /\n\nRUN echo first && \\\n  echo oh no && false\n")
    failed = launcher.run(*run_words("true"))
    assert failed.code == 125
    assert "failed (image-not-built)" in failed.err
    what = "line 4: RUN echo first && echo oh no && false ended with exit code 1"
    assert f"img/Dockerfile cannot be built: {what}" in " ".join(failed.err.split())
    assert "\n  oh no\n" in failed.err
    log = failed.folder / "image.log"
    assert f"all that it printed: {log}" in " ".join(failed.err.split())
    assert "oh no" in log.read_text()
    file.write_text("FROM --platform=linux/arm64 scratch\nADD root.tar /\n")
    other = build(launcher, code=2)
    assert "line 1: it is built for linux/arm64, and the hosts are x86_64" in other.stderr
    file.write_text("FROM nowhere.invalid/x:1\nRUN true\n")
    away = build(launcher, code=125)
    assert "line 1: FROM nowhere.invalid/x:1: its registry cannot be reached" in away.stderr
    file.write_text(GOOD)
    for host in hosts.hosts.values():
        host.run("mv", "/usr/bin/podman", "/usr/bin/podman.away")
    try:
        nobody = build(bare, code=125)
    finally:
        for host in hosts.hosts.values():
            host.run("mv", "/usr/bin/podman.away", "/usr/bin/podman")
    assert "nothing can build " in nobody.stderr
    assert ": this machine: no podman and no docker; lab[1-2]: " in nobody.stderr
    assert not working_containers(launcher)


@pytest.mark.parametrize(
    ("where", "how"), [("here", "interrupted"), ("here", "podman killed"), ("there", "killed")]
)
def test_a_build_that_is_broken_off_leaves_nothing(
    where: str, how: str, launcher: Launcher, bare: Launcher, hosts: labs.Lab
) -> None:
    sleep = f"sleep {os.getpid()}{next(NUMBERS)}"  # tests run side by side
    (launcher.work / "img/Dockerfile").write_text(STUCK.format(sleep))
    chosen = launcher if where == "here" else bare
    words = ("image", "build", "img", "-i", str(chosen.inventory), "--hosts", "lab1")
    with chosen.start_command(*words) as began:
        wait_until(lambda: processes(f"{sleep} ") or processes(f"exec {sleep}"), "the step runs")
        if how == "podman killed":
            for pid in processes(f"podman build --file {launcher.home}"):
                os.kill(pid, signal.SIGKILL)
        else:
            began.send_signal(signal.SIGINT if how == "interrupted" else signal.SIGKILL)
        _, err = began.communicate()
    wait_until(lambda: not processes(sleep), "nothing of the step is left")
    if where == "here":
        wait_until(lambda: not working_containers(launcher), "no container is left")
    else:
        host = hosts.hosts["lab1"]
        ps = ("podman", "ps", "--all", "--quiet", "--external")
        wait_until(lambda: not host.run(*ps).stdout, "no container is left there")
        gone = f"ls -d {IMAGES}/build-*"
        wait_until(lambda: not host.run("sh", "-c", gone, check=False).stdout, "no file is left")
        assert not containers_on(host)
    if how == "interrupted":
        assert began.returncode == 130
    if how == "podman killed":
        assert b"was killed" in err


def test_a_context_for_which_a_host_has_no_room_does_not_fill_its_disk(
    bare: Launcher, hosts: labs.Lab
) -> None:
    for number in range(4):
        (bare.work / "img" / f"part-{number}").write_bytes(b"x" * 1_000_000)
    host = hosts.hosts["lab1"]
    host.run("mkdir", "-p", IMAGES)
    host.run("mount", "-t", "tmpfs", "-o", "size=4M", "none", IMAGES)
    try:
        failed = build(bare, "--hosts", "lab1", code=125)
        assert "no space left for launcher's files" in failed.stderr
        assert not host.run("sh", "-c", f"ls -d {IMAGES}/context-*", check=False).stdout
    finally:
        host.run("umount", IMAGES)
    build(bare, "--hosts", "lab1")


def test_roles_have_builds_of_their_own(launcher: Launcher, hosts: labs.Lab) -> None:
    """Of one Dockerfile, with arguments of each role; a host gets those of its roles."""

    def environment(word: str, image: str = "img") -> dict[str, object]:
        return {"image": f"./{image}", "build_args": {"WORD": word}}

    roles = {
        "head": {"environment": environment("one"), "host": "lab1"},
        "beside": {"environment": environment("two"), "host": "lab1"},
        "worker": {"environment": environment("two"), "host": "lab2"},
    }
    job = {"framework": "env", "run": ["cat", "/word"], "roles": roles, "hosts": "lab[1-2]"}
    (launcher.work / "job.yaml").write_text(json.dumps(job))
    ran = launcher.run("job.yaml", timeout=200)
    assert ran.code == 0, ran.err
    said = {role: ran.log(f"{role}-0.out").decode().strip() for role in roles}
    assert said == {"head": "one", "beside": "two", "worker": "two"}
    assert "of beside, worker by podman, brought to 2 hosts" in ran.err
    logs = {one.name for one in ran.folder.glob("image*")}
    assert logs == {"image-head.log", "image-beside.log"}
    folder = launcher.work / "bad"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY nothing /\n")
    roles["worker"]["environment"] = environment("two", "bad")
    (launcher.work / "job.yaml").write_text(json.dumps(job))
    ran = launcher.run("job.yaml", timeout=200)
    assert ran.receipts[-1]["reason"] == "image-not-built"
    assert "role worker: " in ran.err
    for host in hosts.hosts.values():
        assert not containers_on(host)
