"""Wheels that this machine fetches and gives to hosts, which have no way to an index."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.package_index import PackageIndex
from support.wheels import write_wheel

ENVS, DATA = "/root/.launcher/host/envs", "/root/.launcher/host/data"
SHOW = "import sys, one, two\nprint('has', one.version, two.version, sys.prefix)\n"
#: More than goes from here to each host.
LARGE = os.urandom(20 << 20)


@pytest.fixture
def index(tmp_path: Path, launcher: Launcher) -> Iterator[PackageIndex]:
    """An index on the loopback of this machine: two, which one needs, and others."""
    folder = tmp_path / "index"
    write_wheel(folder, "one", "1.0", needs=["two"], data=LARGE)
    write_wheel(folder, "two", "1.0")
    write_wheel(folder, "two", "2.0", tag="cp311-cp311-win_amd64")
    with PackageIndex(folder).serving() as serving:
        launcher.env |= {"UV_DEFAULT_INDEX": serving.url, "UV_CACHE_DIR": str(tmp_path / "cache")}
        yield serving


@pytest.fixture
def bare(clean: labs.Lab) -> labs.Lab:
    """The hosts of the lab, with nothing that a run has built there."""
    for host in clean.hosts.values():
        host.run("sh", "-c", f"chmod -R u+w {DATA}; rm -rf {ENVS} {DATA} /root/.cache/uv")
    return clean


def give_uv(launcher: Launcher) -> None:
    """Bring uv to the hosts, which have none, by an environment of nothing."""
    (launcher.work / "none").mkdir()
    (launcher.work / "none" / "requirements.txt").write_text("")
    words = ("--framework", "env", "--uv", "none", "--wheels", "none", "true")
    assert launcher.run("--nodes", "3", *words).code == 0


UV = Path(sys.executable).parent / "uv"
WORDS = ("--hosts", "lab[1-2]", "--framework", "torch", "--uv", ".", "--wheels", "fetch")


def test_wheels_are_fetched_once_and_given_to_hosts(
    launcher: Launcher, bare: labs.Lab, index: PackageIndex
) -> None:
    (launcher.work / "requirements.txt").write_text("one\n")
    launcher.script(SHOW, "show.py")
    # Wheels are not shared with other users, who might not read the index: no folder is missed.
    text = launcher.inventory.read_text()
    launcher.inventory = launcher.work.parent / "inventory.yaml"
    shared = "defaults: {data_folder: /srv/none, "
    launcher.inventory.write_text(text.replace("defaults: {", shared, 1))
    give_uv(launcher)
    before = bare.sent()
    ran = launcher.run(*WORDS, "show.py")
    assert ran.code == 0, ran.err
    assert ran.out.count("has 1.0 1.0 /root/.launcher/host/envs/") in (1, 2), ran.out
    assert sorted(index.read) == ["one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"]
    assert "fetched 2 wheels, 21.0 MB in" in ran.err
    assert "gave 2 wheels, 21.0 MB, to 2 hosts in" in ran.err
    assert bare.sent() - before < 1.5 * len(LARGE), "hosts pass them on to each other"
    # What has been built is found, without a word to the index, and with nothing sent.
    index.read.clear()
    before = bare.sent()
    again = launcher.run(*WORDS, "show.py")
    assert again.code == 0, again.err
    assert "wheels," not in again.err
    assert "built" not in again.err
    assert bare.sent() - before < 1 << 20
    # A host that joins later gets what is here.
    more = launcher.run("--hosts", "lab[1-3]", *WORDS[2:], "show.py")
    assert more.code == 0, more.err
    assert "gave 2 wheels, 21.0 MB, to 1 host in" in more.err
    assert "built the environment on 1 host in" in more.err
    assert not index.read


def test_a_changed_lock_brings_what_is_new(
    launcher: Launcher, bare: labs.Lab, index: PackageIndex
) -> None:
    """By the lock of a project, whose file names the index here."""
    project = '[project]\nname = "job"\nversion = "1"\nrequires-python = ">=3.9"\ndependencies = ["one", "two<2"]\n'
    write_project(launcher, project)
    launcher.script(SHOW, "show.py")
    ran = launcher.run(*WORDS, "show.py")
    assert ran.code == 0, ran.err
    write_wheel(index.folder, "two", "1.1")
    index.read.clear()
    write_project(launcher, project, "--upgrade")
    before = bare.sent()
    ran = launcher.run(*WORDS, "show.py")
    assert ran.code == 0, ran.err
    assert "has 1.0 1.1" in ran.out
    assert index.read == ["two-1.1-py3-none-any.whl"]
    assert bare.sent() - before < 2 << 20, "the large one is there"
    # A lock that fits no host is told before anything is fetched.
    index.read.clear()
    for name in ("uv.lock", "pyproject.toml"):
        file = launcher.work / name
        file.write_text(file.read_text().replace(">=3.9", ">=3.99"))
    failed = launcher.run(*WORDS, "show.py")
    assert failed.receipts[-1]["reason"] == "no-environment"
    assert ". is for Python >=3.99, and it has 3." in failed.err
    assert not index.read


def test_the_same_text_with_other_wheels(
    launcher: Launcher, bare: labs.Lab, index: PackageIndex
) -> None:
    """A project gets its own wheels, also on a host that has the environment of another."""
    (launcher.work / "requirements.txt").write_text("--find-links wheels\nlocal\n")
    listed = "cat $VIRTUAL_ENV/lib/python*/site-packages/local.bin | wc -c | xargs echo has"
    words = ("--hosts", "lab1", "--framework", "env", "--uv", ".", "--wheels", "fetch")
    for size in (5, 6):
        write_wheel(launcher.work / "wheels", "local", "1.0", data=b"x" * size)
        ran = launcher.run(*words, "sh", "-c", listed)
        assert ran.code == 0, ran.err
        assert f"has {size}" in ran.out


def write_project(launcher: Launcher, text: str, *words: str) -> None:
    """Write the project of the work folder, and lock it."""
    (launcher.work / "pyproject.toml").write_text(text)
    subprocess.run(
        [UV, "lock", "--quiet", *words],
        cwd=launcher.work,
        env={**launcher.environment(), "UV_PYTHON_DOWNLOADS": "never"},
        check=True,
    )


@pytest.mark.parametrize(
    "own", [(labs.HostSpec("wide"), labs.HostSpec("full", home_size="70M"))], indirect=True
)
def test_who_is_killed_and_a_disk_that_is_full(
    own: labs.Lab, launcher: Launcher, index: PackageIndex, tmp_path: Path
) -> None:
    """A launcher that is killed while it fetches leaves nothing that looks whole; a host without room says
    so, and keeps nobody else from having the wheels."""
    launcher.inventory = tmp_path / "own.yaml"
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    (launcher.work / "requirements.txt").write_text("one\n")
    launcher.script(SHOW, "show.py")
    words = ("--framework", "env", "--uv", ".", "--wheels", "fetch", "python", "show.py")
    index.go_on.clear()
    killed = launcher.start("--hosts", "wide", *words)
    assert index.reached.wait(60)
    killed.kill()
    killed.communicate()
    index.go_on.set()
    assert not list((launcher.home / "wheels" / "sets").glob("*.json"))
    ran = launcher.run("--hosts", "wide", *words)
    assert ran.code == 0, ran.err
    assert "has 1.0 1.0" in ran.out
    index.read.clear()
    own.hosts["full"].run("sh", "-c", "head -c 60000000 /dev/zero >/root/filler")
    failed = launcher.run("--hosts", "full,wide", *words)
    assert failed.code == 125
    assert "full: " in failed.err
    assert "bytes are needed, and" in failed.err, failed.err
    assert not own.hosts["full"].exists(ENVS + "/*")
    assert not index.read
    own.hosts["full"].run("rm", "/root/filler")


def test_two_runs_at_once_fetch_once(
    launcher: Launcher, bare: labs.Lab, index: PackageIndex
) -> None:
    (launcher.work / "requirements.txt").write_text("one\n")
    launcher.script(SHOW, "show.py")
    words = ("--framework", "env", "--uv", ".", "--wheels", "fetch", "python", "show.py")
    index.go_on.clear()
    runs = [launcher.start("--hosts", "lab[1-2]", *words) for _ in range(2)]
    assert index.reached.wait(60)
    index.go_on.set()
    for run in runs:
        out, err = run.communicate(timeout=90)
        assert run.returncode == 0, err
        assert b"has 1.0 1.0" in out
    assert sorted(index.read) == ["one-1.0-py3-none-any.whl", "two-1.0-py3-none-any.whl"]
    for name in ("lab1", "lab2"):
        found = bare.hosts[name].run("sh", "-c", f"ls {ENVS} | grep -c '\\.[0-9]*$'")
        assert found.stdout.strip() == b"1", "it was built once"


def test_hosts_of_several_kinds_and_an_environment_of_a_role(
    launcher: Launcher, bare: labs.Lab, index: PackageIndex
) -> None:
    """Each kind of host gets what its Python needs, and hosts get what their roles need."""
    system, ours = "/usr/bin/python3", sys.executable
    show = ["-c", "import platform; print(platform.python_version())"]
    old, new = (
        subprocess.run([one, *show], capture_output=True, text=True, check=True).stdout.strip()
        for one in (system, ours)
    )
    if old == new:
        pytest.skip("the Python of this system is that of the tests")
    text = launcher.inventory.read_text()
    launcher.inventory.write_text(text.replace("lab2: {}", f"lab2: {{python: {system}}}"))
    write_wheel(index.folder, "more", "1.0")
    wanted = f"one; python_full_version == '{new}'\nmore; python_full_version == '{old}'\n"
    (launcher.work / "own").mkdir()
    (launcher.work / "own" / "requirements.txt").write_text(wanted)
    listed = (
        'ls $VIRTUAL_ENV/lib/python*/site-packages | grep "^[a-z]*.py$" | sort | xargs echo has'
    )
    (launcher.work / "job.yaml").write_text(
        "framework: env\nroles:\n"
        f"  trainer: {{host: lab1, environment: {{uv: own, wheels: fetch}}, run: '{listed}'}}\n"
        f"  other: {{host: lab2, environment: {{uv: own, wheels: fetch}}, run: '{listed}'}}\n"
        "  plain: {run: echo plain}\n"
    )
    ran = launcher.run("--hosts", "lab[1-2]", "job.yaml")
    assert ran.code == 0, ran.err
    assert "has one.py two.py" in ran.out
    assert "has more.py" in ran.out
    assert ran.err.count("gave ") == 2, ran.err
