"""Environments that hosts of the inventory, and roles of a job, have for themselves."""

from __future__ import annotations

import json
import sys

import pytest

from support import lab as labs
from support.command import Launcher
from support.terminal import Terminal
from support.wheels import write_wheel

TRAIN = "/root/miniconda3/envs/train"
OTHER, LAB1, WORKER = "/srv/envs/train-cu121", "/opt/lab1", "/opt/worker"


@pytest.fixture
def places(clean: labs.Lab) -> labs.Lab:
    """Two hosts. The first has an environment of conda by name, and lab1's own; the second has one of
    conda by another name. Both have that of workers."""
    made = {"lab1": (TRAIN, LAB1, WORKER), "lab2": (OTHER, WORKER)}
    for name, folders in made.items():
        host = clean.hosts[name]
        host.run("rm", "-rf", "/root/miniconda3", "/srv/envs", LAB1, WORKER)
        for folder in folders:
            host.run(sys.executable, "-m", "venv", "--without-pip", folder)
            host.run("mkdir", "-p", f"{folder}/conda-meta")
    return clean


def of_hosts(launcher: Launcher, **environments: str) -> None:
    """Write an inventory in which hosts have environments."""
    text = launcher.inventory.read_text()
    for name, environment in environments.items():
        assert f"  {name}: {{}}\n" in text
        text = text.replace(f"  {name}: {{}}\n", f"  {name}: {{environment: {environment}}}\n")
    launcher.inventory.write_text(text)


SHOW = """
import os, sys
who = os.environ.get("LAUNCHER_ROLE", "rank") + os.environ.get("LAUNCHER_INDEX", "")
print(who, os.environ["LAUNCHER_HOST"], "in", sys.prefix, os.environ.get("VIRTUAL_ENV") or os.environ.get("CONDA_PREFIX"))
"""


def test_hosts_have_environments_of_their_own(launcher: Launcher, places: labs.Lab) -> None:
    of_hosts(launcher, lab1=f"{{venv: {LAB1}}}", lab2=f"{{conda: {OTHER}, name: train}}")
    launcher.script(SHOW, "show.py")
    setup = "echo setup $(command -v python)"
    words = ("--hosts", "lab[1-2]", "--framework", "torch", "--setup", setup)
    ran = launcher.run(*words, "show.py")
    assert ran.code == 0, ran.err
    assert f"rank lab1 in {LAB1} {LAB1}\n" in ran.out
    assert f"rank lab2 in {OTHER} {OTHER}\n" in ran.out
    assert f"setup {LAB1}/bin/python" in ran.out
    assert f"setup {OTHER}/bin/python" in ran.out
    visited = launcher.call("exec", "-", "--", "python", "-c", "import sys; print(sys.prefix)")
    assert {LAB1, OTHER} <= set(visited.stdout.split())
    again = launcher.call("rerun", ran.folder.name)
    assert again.returncode == 0, again.stderr
    assert f"in {OTHER} {OTHER}" in again.stdout
    # By its name, each host has what it calls so.
    ran = launcher.run(*words, "--conda", "train", "show.py")
    assert ran.code == 0, ran.err
    assert f"rank lab1 in {TRAIN} {TRAIN}\n" in ran.out
    assert f"rank lab2 in {OTHER} {OTHER}\n" in ran.out
    again = launcher.call("rerun", "-")
    assert f"in {OTHER} {OTHER}" in again.stdout, again.stderr
    far = "for h in $HOSTS; do ssh $h 'python -c \"import sys; print(7, sys.prefix)\"'; done"
    ran = launcher.run("--hosts", "lab[1-2]", "--framework", "ssh", far)
    assert ran.code == 0, ran.err
    assert f"7 {LAB1}\n" in ran.out
    assert f"7 {OTHER}\n" in ran.out
    # Whoever says more than the inventory has it.
    ran = launcher.run(*words, "--python", sys.executable, "show.py")
    assert f"rank lab1 in {sys.prefix} None\n" in ran.out


def test_hosts_without_the_one_of_the_inventory_are_named(
    launcher: Launcher, places: labs.Lab
) -> None:
    of_hosts(launcher, lab1="{conda: none-such}", lab2="{venv: /opt/none}")
    ran = launcher.run("--hosts", "lab[1-2]", "--framework", "env", "echo started")
    assert (ran.code, ran.receipt["reason"]) == (125, "no-environment")
    assert "; nor on lab" in ran.err
    assert "in the inventory names it; " in ran.err
    assert "started\n" not in ran.out
    found = launcher.call("check", "--hosts", "lab[1-2]", "--no-pairs")
    assert found.returncode == 1
    assert "there is no conda environment none-such" in found.stdout


ROLES = """\
framework: torch
run: show.py
setup: "true"
roles:
  chief: {environment: {conda: train}, setup: "echo mine $(command -v python)"}
  worker: {replicas: 2, environment: {venv: /opt/worker}}
  other: {}
"""


def test_roles_have_environments_of_their_own(launcher: Launcher, places: labs.Lab) -> None:
    launcher.script(SHOW, "show.py")
    (launcher.work / "job.yaml").write_text(ROLES)
    ran = launcher.run("--hosts", "lab1", "job.yaml")
    assert ran.code == 0, ran.err
    assert f"chief0 lab1 in {TRAIN} {TRAIN}\n" in ran.out
    for index in (0, 1):
        assert f"worker{index} lab1 in {WORKER} {WORKER}\n" in ran.out
    assert f"other0 lab1 in {sys.prefix} None\n" in ran.out
    assert f"mine {TRAIN}/bin/python" in ran.out
    visited = launcher.call("exec", "-", "--", "python", "-c", "import sys; print(sys.prefix)")
    assert visited.stdout.split()[-1] == TRAIN
    # The host's startup files put their own Python first.
    places.hosts["lab1"].write("/root/.bashrc", b"PATH=/usr/bin:$PATH\n")
    argv = [sys.executable, "-m", "launcher", "shell", "-"]
    env = {**launcher.environment(), "TERM": "xterm"}
    with Terminal(argv, launcher.work, env) as terminal:
        terminal.press("command -v python; exit\r")
        terminal.end()
    places.hosts["lab1"].run("rm", "/root/.bashrc")
    assert f"{TRAIN}/bin/python\r\n".encode() in terminal.seen
    recorded = json.loads((ran.folder / "run.json").read_text())
    assert recorded["nodes"][0]["pythons"]["conda:train"] == f"{TRAIN}/bin/python"
    again = launcher.call("rerun", ran.folder.name)
    assert f"worker1 lab1 in {WORKER} {WORKER}\n" in again.stdout
    # A flag is stronger than the roles of a file.
    ran = launcher.run("--hosts", "lab1", "--venv", WORKER, "job.yaml")
    assert ran.out.count(f"in {WORKER} {WORKER}\n") == 4


def test_roles_go_to_hosts_that_have_their_environment(
    launcher: Launcher, places: labs.Lab
) -> None:
    launcher.script(SHOW, "show.py")
    (launcher.work / "job.yaml").write_text(ROLES.replace("train", "train2"))
    ran = launcher.run("--hosts", "lab[1-2]", "job.yaml")
    assert (ran.code, ran.receipt["reason"]) == (125, "no-environment")
    assert "role chief: there is no conda environment train2; nor on lab2" in ran.err
    (launcher.work / "job.yaml").write_text(ROLES.replace("/worker", "/helper"))
    ran = launcher.run("--hosts", "lab[1-2]", "job.yaml")
    assert "role worker: there is no Python in the virtual environment /opt/helper" in ran.err
    (launcher.work / "job.yaml").write_text(ROLES.replace("chief: {", "chief: {host: lab2, "))
    ran = launcher.run("--hosts", "lab[1-2]", "job.yaml")
    assert "lab2: role chief: there is no conda environment train" in ran.err
    (launcher.work / "job.yaml").write_text(ROLES)
    found = launcher.call("check", "--hosts", "lab[1-2]", "--job", "job.yaml", "--no-pairs")
    assert "role chief cannot run here: the conda environment train is missing" in found.stdout
    assert found.returncode == 0, found.stdout
    ran = launcher.run("--hosts", "lab[1-2]", "--nodes", "2", "job.yaml")
    assert ran.code == 0, ran.err
    assert f"chief0 lab1 in {TRAIN} {TRAIN}\n" in ran.out


def test_a_role_has_what_its_host_builds(launcher: Launcher, places: labs.Lab) -> None:
    """By a real uv, once for each of two roles; what fails begins again in the same ones."""
    host = places.hosts["lab1"]
    host.run("rm", "-rf", "/root/.launcher/host/envs")
    show = "import os, sys, tiny\nprint(os.environ['LAUNCHER_ROLE'], tiny.version, sys.prefix)\n"
    launcher.script(show + "sys.exit(os.environ['LAUNCHER_ATTEMPT'] == '0')\n", "show.py")
    job = "framework: torch\nrun: show.py\nmax_restarts: 1\nroles:\n"
    for role, version in (("one", "1.0"), ("two", "2.0")):
        write_wheel(launcher.work / "wheels", "tiny", version)
        (launcher.work / f"{role}.txt").write_text(f"tiny=={version}\n")
        job += f"  {role}: {{environment: {{uv: {role}.txt, wheels: wheels}}}}\n"
    (launcher.work / "job.yaml").write_text(job)
    ran = launcher.run("--hosts", "lab1", "job.yaml")
    assert ran.code == 0, ran.err
    assert "built the environment" in ran.err
    envs = "/root/.launcher/host/envs/"
    for role, version in (("one", "1.0"), ("two", "2.0")):
        assert ran.log(f"{role}-0.out", attempt=1).startswith(f"{role} {version} {envs}".encode())
    links = host.run("sh", "-c", f"readlink /root/.launcher/host/runs/{ran.folder.name}/env*")
    assert len({*links.stdout.split()}) == 2


FOUR = tuple(labs.HostSpec(f"lab{number}") for number in (1, 2, 3, 4))
SPARED = """\
framework: torch
run: show.py
max_restarts: 1
num_nodes: 2
roles:
  worker: {replicas: 2, spread: true, environment: {conda: train}}
"""


@pytest.mark.parametrize("own", [FOUR], indirect=True)
def test_a_spare_has_the_environment_where_it_lies_there(own: labs.Lab, launcher: Launcher) -> None:
    """The host that lacks it is no spare."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    for name in ("lab1", "lab2", "lab4"):
        own.hosts[name].run("/usr/bin/python3", "-m", "venv", "--without-pip", f"/opt/{name}")
        of_hosts(launcher, **{name: f"{{venv: /opt/{name}, name: train}}"})
    launcher.script(
        SHOW + "import time\nopen(os.environ['LAUNCHER_OUTPUT_DIR'] + '/here', 'w').close()\n"
        "while os.environ['LAUNCHER_ATTEMPT'] == '0':\n    time.sleep(0.05)\n",
        "show.py",
    )
    (launcher.work / "job.yaml").write_text(SPARED)
    logs = "runs/*/logs/attempt-0/worker-*.out"
    process = launcher.start("--lost-after", "2s", "--pull-every", "0.2s", "job.yaml")
    try:
        labs.wait_until(
            lambda: (
                process.poll() is not None
                or (
                    len([*launcher.home.glob("runs/*/.hosts/*/outputs/here")]) == 2
                    and sum(b" in /opt/" in log.read_bytes() for log in launcher.home.glob(logs))
                    == 2
                )
            ),
            "both workers",
        )
        own.hosts["lab2"].stop_sshd()
        own.hosts["lab2"].kill_sshd_sessions()
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 0, err.decode()
    for name, count in (("lab1", 2), ("lab2", 1), ("lab4", 1)):
        assert out.decode().count(f" {name} in /opt/{name} /opt/{name}\n") == count
    assert b"lab4 replaces lab2" in err
