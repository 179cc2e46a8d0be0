"""A job's environment on real hosts: in ranks, setup, visitors, and what ssh starts; and where it lacks."""

from __future__ import annotations

import sys

import pytest

from support import lab as labs
from support.command import Launcher
from support.wheels import write_wheel

PLACE = "/root/miniconda3/envs/train"
#: A FAKE of conda, which says what the real one does. One host has it; the other is left to the folder.
CONDA = """#!/bin/sh
[ "$1 $2" = "shell.posix activate" ] || exit 2
echo "export PATH='$3/bin:$PATH' CONDA_PREFIX='$3' CONDA_SHLVL='1' BY='conda'"
echo ". '$3/etc/conda/activate.d/x.sh'"
"""


@pytest.fixture
def conda(clean: labs.Lab) -> labs.Lab:
    """The hosts of the lab, with an environment of conda; its Python is a real one."""
    for host in clean.hosts.values():
        host.run("rm", "-rf", "/root/miniconda3")
        host.run(sys.executable, "-m", "venv", "--without-pip", PLACE)
        host.run("mkdir", "-p", f"{PLACE}/conda-meta", f"{PLACE}/etc/conda/activate.d")
        script = 'export LIBRARY="$CONDA_PREFIX/lib of $(hostname)"'
        host.run("sh", "-c", f"cat >{PLACE}/etc/conda/activate.d/x.sh", input=script.encode())
    host = clean.hosts["lab1"]
    host.run("mkdir", "-p", "/root/miniconda3/bin")
    host.run("sh", "-c", "cat >/root/miniconda3/bin/conda", input=CONDA.encode())
    host.run("chmod", "755", "/root/miniconda3/bin/conda")
    return clean


def test_a_conda_environment_is_active_wherever_the_job_runs(
    launcher: Launcher, conda: labs.Lab
) -> None:
    version = "{}.{}".format(*sys.version_info)
    packages = f"{PLACE}/lib/python{version}/site-packages"
    for host, extra in (("lab1", "extra-2.0"), ("lab2", "extra-1.0")):
        conda.hosts[host].run("mkdir", f"{packages}/{extra}.dist-info")
    launcher.script("import os, sys\nprint(sys.executable, os.environ['LIBRARY'])\n", "show.py")
    setup = "echo setup $LIBRARY $(command -v python)"
    words = ("--nodes", "2", "--framework", "torch", "--conda", "train", "--setup", setup)
    ran = launcher.run(*words, "show.py")
    assert ran.code == 0, ran.err
    assert "hosts differ: extra 2.0 on lab1, 1.0 on lab2\n" in ran.out + ran.err
    for host in ("lab1", "lab2"):
        name = conda.hosts[host].run("hostname").stdout.decode().strip()
        assert f"{PLACE}/bin/python {PLACE}/lib of {name}" in ran.out
        assert f"setup {PLACE}/lib of {name} {PLACE}/bin/python" in ran.out
    visited = launcher.call("exec", "-", "--", "sh", "-c", "echo $LIBRARY by ${BY:-itself}")
    assert f"{PLACE}/lib of" in visited.stdout
    assert visited.stdout.count("by conda") == visited.stdout.count("by itself") == 1
    far = "for h in $HOSTS; do ssh $h 'echo there $LIBRARY'; done"
    ran = launcher.run("--nodes", "2", "--framework", "ssh", "--conda", PLACE, far)
    assert ran.code == 0, ran.err
    assert ran.out.count(f"there {PLACE}/lib of") == 2
    assert ran.out.count("there") == 2


def test_hosts_without_the_environment_are_named_before_anything_starts(
    launcher: Launcher, conda: labs.Lab
) -> None:
    words = ("--hosts", "lab[1-2]", "--framework", "env")
    conda.hosts["lab2"].run("rm", "-rf", PLACE)
    ran = launcher.run(*words, "--conda", "train", "echo started")
    assert (ran.code, ran.receipt["reason"]) == (125, "no-environment")
    assert "lab2: there is no conda environment train" in ran.err
    ran = launcher.run(*words, "--venv", "/opt/none", "echo started")
    assert "there is no Python in the virtual environment /opt/none; nor on lab" in ran.err
    assert "python3 -m venv /opt/none there makes one" in ran.err
    # What is there and cannot be activated is found on all hosts, too, before the first rank.
    for host in conda.hosts.values():
        host.run("rm", "-rf", "/usr/share/modules", "/etc/profile.d/modules.sh", "/usr/share/lmod")
    ran = launcher.run(*words, "--module", "cuda/13", "echo started")
    assert ran.receipts[-1]["reason"] == "no-environment"
    assert "modules: this host has no module command; nor on lab2" in ran.err
    assert "started\n" not in ran.out


def test_hosts_without_a_registry_build_an_environment_once(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """By a real uv, which this machine brings; the wheels travel with the code."""
    for host in clean.hosts.values():
        host.run("rm", "-rf", "/root/.launcher/host/envs", "/root/.launcher/host/tools")
    write_wheel(launcher.work / "wheels", "tiny", "1.0")
    (launcher.work / "requirements.txt").write_text("tiny==1.0\n")
    show = "import os, sys, tiny\nprint(sys.prefix, tiny.version, os.environ['VIRTUAL_ENV'])\n"
    launcher.script(show, "show.py")
    words = ("--hosts", "lab[1-2]", "--framework", "torch", "--uv", ".", "--wheels", "wheels")
    ran = launcher.run(*words, "show.py")
    assert ran.code == 0, ran.err
    for rank in (0, 1):
        line = ran.log(f"rank-{rank}.out")
        assert line.count(b"/root/.launcher/host/envs/") == 2
        assert b" 1.0 " in line
    assert "built the environment on 2 hosts" in ran.err
    assert clean.hosts["lab1"].run("ls", "/root/.launcher/host/tools").stdout.startswith(b"uv-")
    visited = launcher.call("exec", "-", "--", "python", "-c", "import tiny; print(tiny.version)")
    assert "1.0" in visited.stdout, visited.stderr
    first = ran.folder.name
    again = launcher.call("rerun", first)
    assert again.returncode == 0, again.stderr
    assert "built the environment" not in again.stderr
    (launcher.work / "requirements.txt").write_text("tiny==2.0\n")
    failed = launcher.run(*words, "show.py")
    assert failed.receipts[-1]["reason"] == "no-environment"
    assert "the environment of . cannot be built: " in failed.err
    assert "tiny==2.0" in failed.err, failed.err
    # A rerun has what the run had, also once that is to be built again.
    write_wheel(launcher.work / "wheels", "tiny", "2.0")
    for host in clean.hosts.values():
        host.run("rm", "-rf", "/root/.launcher/host/envs")
    again = launcher.call("rerun", first, timeout=120)
    assert again.returncode == 0, again.stderr
    assert "built the environment on 2 hosts" in again.stderr
    assert " 1.0 " in again.stdout


def test_a_lock_that_does_not_fit_the_python_of_a_host(launcher: Launcher, clean: labs.Lab) -> None:
    """uv's words, before anything starts; nothing half built is left."""
    envs = "/root/.launcher/host/envs"
    for host in clean.hosts.values():
        host.run("rm", "-rf", envs)
    (launcher.work / "pyproject.toml").write_text(
        '[project]\nname = "job"\nversion = "1"\nrequires-python = ">=3.99"\n'
    )
    (launcher.work / "uv.lock").write_text(
        'version = 1\nrequires-python = ">=3.99"\n\n'
        '[[package]]\nname = "job"\nversion = "1"\nsource = { virtual = "." }\n'
    )
    ran = launcher.run(
        "--hosts", "lab[1-2]", "--framework", "env", "--uv", ".", "echo started", timeout=120
    )
    assert (ran.code, ran.receipt["reason"]) == (125, "no-environment")
    assert "the environment of . cannot be built: " in ran.err
    assert "incompatible with the project" in ran.err, ran.err
    assert "started" not in ran.out
    left = clean.hosts["lab1"].run("find", envs, "-name", "pyvenv.cfg", check=False)
    assert not left.stdout
