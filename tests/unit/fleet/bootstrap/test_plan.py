"""What bootstrap decides from what it saw: pure, so also for systems that no test host has."""

from __future__ import annotations

import fcntl
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from launcher.fleet.bootstrap import plan
from launcher.fleet.bootstrap.bootstrap import BUILD_HOROVOD
from launcher.fleet.bootstrap.inspection import Interpreter, Look, look_command, parse_look
from launcher.fleet.bootstrap.plan import Goal, chosen, decide
from launcher.spec.errors import InputError
from launcher.transport.agent_bundle import weakness_program

USUAL = chosen((), (), ())
KEY = "ssh-ed25519 AAAAC3Nz me@home"
PYTHON = Interpreter("/usr/bin/python3", (3, 11, 2), True)
BARE = Look(
    system="debian",
    like=(),
    title="Debian 12",
    manager="apt-get",
    user="alice",
    is_root=False,
    home="/home/alice",
    hostname="gpu1",
    address="10.0.0.11",
    own_address="10.0.0.11",
    rsync="",
    python=None,
    base=None,
    venv=False,
    weakness="",
    requirements="",
    horovod="",
    uv="",
    mpirun="",
    tools=(),
    key=False,
    driverless_gpu=False,
)
DONE = replace(BARE, rsync="3.2.7", python=PYTHON, base=PYTHON, key=True)
RED = replace(BARE, system="rocky", like=("rhel", "fedora"), manager="dnf")


def changes(look: Look, goal: Goal) -> dict[str, str]:
    return {change.step: change.what for change in decide(look, goal).changes}


def problems(look: Look, goal: Goal) -> dict[str, str]:
    return {problem.step: problem.message for problem in decide(look, goal).problems}


def test_a_bare_host() -> None:
    goal = Goal(USUAL, "python3", KEY)
    assert changes(BARE, goal) == {
        "key": "add your public key (me@home) to ~/.ssh/authorized_keys",
        "rsync": "install rsync",
        "python": "install python3, python3-venv",
    }
    assert changes(RED, goal)["python"] == "install python3"
    assert "dnf install -y -q rsync" in decide(RED, goal).changes[1].script
    assert decide(DONE, goal) == plan.Decision()


CASES = {
    "no venv module": (replace(DONE, python=replace(PYTHON, venv=False)), "python3",
                       {"python": "install python3-venv"}, {}),
    "a Python of the inventory's": (DONE, "python3.12", {}, {}),
    "another one that is missing": (replace(DONE, python=None), "python3.12",
                                    {"python": "install python3.12, python3.12-venv"}, {}),
    "too old": (replace(DONE, python=Interpreter("/usr/bin/python3", (3, 6, 8), True)), "python3",
                {}, {"python": "python3 is only 3.6.8"}),
    "a strange Python": (replace(DONE, python=None), "pypy3",
                         {}, {"python": "there is no pypy3"}),
    "an environment that is missing": (replace(DONE, python=None), "~/env/bin/python",
                                       {"venv": "create the environment /home/alice/env"}, {}),
    "an environment that is there": (replace(DONE, venv=True), "/opt/env/bin/python3", {}, {}),
    "no package manager": (replace(DONE, rsync="", manager="", title="Arch Linux"), "python3",
                           {}, {"rsync": "cannot install rsync: Arch Linux has no apt-get, dnf or yum"}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_pythons_and_systems(case: str) -> None:
    look, python, made, wrong = CASES[case]
    goal = Goal(USUAL, python, KEY)
    assert changes(look, goal) == made
    assert problems(look, goal) == wrong


@pytest.mark.parametrize("text", ["", "# nothing yet\n\n"])
def test_requirements_that_name_nothing_are_met(text: str) -> None:
    goal = Goal(USUAL, "python3", requirements=text)
    assert "requirements" not in changes(replace(DONE, venv=True), goal)


def test_requirements_are_installed_once() -> None:
    text = "--no-index\ntorch==2.13.0 # cpu\n\nnumpy\n"
    goal = Goal(USUAL, "python3", None, text)
    first = decide(DONE, goal)
    assert [change.step for change in first.changes] == ["venv", "requirements"]
    assert "install the 2 requirements into /home/alice/.launcher/venv" in first.changes[1].what
    assert first.notes == (
        "to use it in runs, set `python: ~/.launcher/venv/bin/python` in the inventory",
    )
    digest = first.changes[1].script.rpartition("echo ")[2].split()[0]
    there = replace(DONE, venv=True, requirements=digest)
    assert changes(there, goal) == {}
    assert list(changes(there, replace(goal, requirements=text + "scipy\n"))) == ["requirements"]
    with_uv = decide(replace(DONE, uv="/usr/bin/uv"), goal).changes[1]
    assert "/usr/bin/uv pip install" in with_uv.script
    without_ensurepip = replace(DONE, uv="/usr/bin/uv", python=replace(PYTHON, venv=False))
    assert "/usr/bin/uv venv" in decide(without_ensurepip, goal).changes[1].script


TOOLS = ("g++", "cmake", "make", "mpicxx", "Python.h")


def test_horovod_is_built_after_its_tools() -> None:
    """With the one script that is shipped; where both are asked for, until it has MPI."""
    build = BUILD_HOROVOD.read_text()
    steps = chosen((), ["openmpi", "horovod"], ())
    goal = Goal(steps, "/opt/env/bin/python", build_horovod=build)
    there = replace(DONE, venv=True)
    found = decide(there, goal).changes
    assert [(change.step, change.root) for change in found] == [
        ("openmpi", True),
        ("horovod", True),
        ("horovod", False),
    ]
    assert found[1].what == "install g++, cmake, make, python3-dev"
    assert found[2].script.endswith(f"set -- /opt/env/bin/python\n{build}")
    red = decide(replace(RED, tools=("cmake", "make")), replace(goal, python="python3.12")).changes
    assert red[-2].what == "install gcc-c++, python3.12-devel"
    ready = replace(there, mpirun="/usr/bin/mpirun", tools=TOOLS)
    assert [change.root for change in decide(ready, goal).changes] == [False]
    assert decide(replace(ready, tools=TOOLS[:3]), goal).changes[0].step == "openmpi", "no headers"
    assert not decide(replace(ready, horovod="gloo mpi"), goal).changes
    assert len(decide(replace(ready, horovod="gloo"), goal).changes) == 1
    without = replace(goal, steps=chosen((), ["horovod"], ()))
    assert not decide(replace(ready, horovod="gloo"), without).changes


def test_steps_are_chosen_by_name() -> None:
    assert "horovod" not in USUAL
    assert chosen(["rsync"], [], ["openmpi"]) == USUAL - {"rsync"} | {"openmpi"}
    assert chosen([], ["rsync"], []) == {"rsync"}
    with pytest.raises(InputError, match='there is no step "rsnyc"') as error:
        chosen(["rsnyc"], [], [])
    assert error.value.hint == 'did you mean "rsync"?'


def test_drivers_are_left_alone_and_names_only_offered() -> None:
    look = replace(DONE, driverless_gpu=True, own_address="127.0.1.1")
    found = decide(look, Goal(USUAL, "python3"))
    assert not found.changes
    assert any("--with own-name" in note for note in found.notes)
    assert any("driver, which bootstrap never installs" in note for note in found.notes)


def test_a_user_who_cannot_be_root() -> None:
    found = plan.without_root(decide(BARE, Goal(USUAL, "python3", KEY)), "there is no sudo")
    assert [change.step for change in found.changes] == ["key"]
    assert [problem.step for problem in found.problems] == ["rsync", "python"]
    assert plan.blocked("venv", ["python"]) == "python"
    assert plan.blocked("key", ["rsync"]) is None


@pytest.mark.parametrize("line", ["-r more.txt", "-c limits.txt", "-e .", "./here", "file:///x"])
def test_a_requirement_that_stays_here(line: str) -> None:
    with pytest.raises(InputError, match=r"r\.txt:2: "):
        plan.requirement_lines(f"numpy\n{line}\n", "r.txt")


HOSTS = "127.0.0.1 localhost gpu1\n::1 localhost\n127.0.1.1\tgpu1.lab gpu1\n10.0.0.12 gpu2\n"
MOVED = (
    "127.0.0.1 localhost\n10.0.0.11 gpu1\n::1 localhost\n10.0.0.11 gpu1.lab gpu1\n10.0.0.12 gpu2\n"
)


def test_the_own_name_moves_and_the_rest_stays(tmp_path: Path) -> None:
    """The script itself, on a file that is not /etc/hosts."""
    file = tmp_path / "hosts"
    file.write_text(HOSTS)
    look = replace(DONE, own_address="127.0.1.1")
    (change,) = decide(look, Goal(frozenset({"own-name"}), "python3")).changes
    script = change.script.replace("/etc/hosts", str(file))
    subprocess.run(["sh", "-c", script], check=True)
    assert file.read_text() == MOVED
    assert Path(f"{file}.before-launcher").read_text() == HOSTS


def test_a_look_at_this_machine(tmp_path: Path) -> None:
    """The script runs in any sh, survives noise, and what is cut off is no answer."""
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22",
    }
    command = look_command("python3", "~/no such folder", KEY)
    done = subprocess.run(
        ["sh", "-c", command], env=env, capture_output=True, text=True, check=True
    )
    look = parse_look(f"Welcome!\n{done.stdout}bye")
    assert look.home == str(tmp_path)
    assert look.address == "10.0.0.2"
    assert look.base is not None
    assert look.base.version >= (3, 8)
    assert not look.venv
    assert not look.key
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text(KEY)
    done = subprocess.run(
        ["sh", "-c", command], env=env, capture_output=True, text=True, check=True
    )
    assert parse_look(done.stdout).key
    with pytest.raises(ValueError, match="did not run"):
        parse_look(done.stdout[:-20])


@pytest.mark.thorough
def test_an_environment_that_others_could_change_is_neither_executed_nor_filled(
    tmp_path: Path,
) -> None:
    place = tmp_path / "venv"
    (place / "bin").mkdir(parents=True)
    (place / "bin/python").write_text(f"#!/bin/sh\ntouch {tmp_path}/executed\n")
    (place / "bin/python").chmod(0o755)
    place.chmod(0o777)
    goal = Goal(USUAL, "python3", requirements="torch", venv=str(place))
    assert plan.is_venv_ours(goal)
    assert not plan.is_venv_ours(Goal(USUAL, "/opt/conda/bin/python"))
    command = look_command("python3", str(place), None, weakness_program())
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    look = parse_look(done.stdout)
    assert not (tmp_path / "executed").exists()
    assert f"{place} may be written to by everybody" in problems(look, goal)["venv"]
    assert not {"venv", "requirements"} & set(changes(look, goal))
    place.chmod(0o755)
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)
    assert parse_look(done.stdout).weakness == ""


def test_hosts_that_share_a_home_make_its_environment_in_turn(tmp_path: Path) -> None:
    """The second one waits, and finds what the first one has made."""
    python, place = tmp_path / "python", tmp_path / "shared" / "my venv"
    python.write_text(
        f'#!/bin/sh\nmkdir -p "$3/bin" && ln -s /bin/true "$3/bin/python" && echo made >>{tmp_path}/made\n'
    )
    python.chmod(0o755)
    look = replace(DONE, venv=False, python=replace(PYTHON, path=str(python)))
    goal = Goal(USUAL, "python3", venv=str(place))
    (script,) = (c.script for c in decide(look, goal).changes if c.step == "venv")
    place.parent.mkdir()
    with open(place.parent / "my venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with subprocess.Popen(["sh", "-c", script]) as waiting:
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(0.3)
            assert not (tmp_path / "made").exists()
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert waiting.wait(30) == 0
    subprocess.run(["sh", "-c", script], check=True)
    assert (tmp_path / "made").read_text() == "made\n"
