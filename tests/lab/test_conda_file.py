"""Hosts that build an environment of conda or pixi, by fakes of micromamba and pixi (see conda_tools)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher
from support.conda_tools import micromamba, pixi

TOOL = "/root/.local/bin/micromamba"
SHOW = "import os, sys, tiny\nprint(sys.prefix, tiny.version, os.environ['CONDA_PREFIX'])\n"


@pytest.fixture
def tools(clean: labs.Lab, tmp_path: Path) -> Iterator[labs.Lab]:
    """Hosts with a micromamba which only an interactive shell has on its PATH; later tests have none."""
    text = micromamba(tmp_path / "micromamba").read_bytes()
    for host in clean.hosts.values():
        host.run("sh", "-c", "rm -rf /root/.launcher/host/envs /root/builds /root/go")
        host.run("mkdir", "-p", "/root/.local/bin")
        host.run("sh", "-c", f"cat >{TOOL} && chmod 755 {TOOL}", input=text)
    yield clean
    for host in clean.hosts.values():
        host.run("rm", "-rf", TOOL, "/root/.pixi", "/root/.launcher/host/envs")


def test_hosts_build_it_once_and_all_of_the_job_is_in_it(
    launcher: Launcher, tools: labs.Lab
) -> None:
    text = "dependencies:\n- python\n- tiny\n"
    (launcher.work / "environment.yml").write_text(text)
    launcher.script(SHOW, "show.py")
    setup = "echo setup $(command -v python)"
    words = ("--hosts", "lab[1-2]", "--framework", "torch", "--setup", setup)
    ran = launcher.run(*words, "--conda", "environment.yml", "show.py")
    assert ran.code == 0, ran.err
    assert "built the environment on 2 hosts" in ran.err
    place = "/root/.launcher/host/envs/"
    for rank in (0, 1):
        prefix, version, active = ran.log(f"rank-{rank}.out").decode().split()
        assert (prefix, version) == (active, "1.0")
        assert prefix.startswith(place)
    assert f"setup {prefix}/bin/python" in ran.out
    visited = launcher.call("exec", "-", "--", "python", "-c", "import tiny; print(tiny.version)")
    assert "lab[1-2] │ 1.0" in visited.stdout, visited.stderr
    packages = str(json.loads((ran.folder / "packages.json").read_text()))
    assert "'cuda-cudart==12.4', 'tiny==1.0'" in packages, "also those without Python"
    again = launcher.call("rerun", ran.folder.name)
    assert again.returncode == 0, again.stderr
    assert "built the environment" not in again.stderr
    for name in ("lab1", "lab2"):
        assert tools.hosts[name].run("cat", "/root/builds").stdout.count(b"\n") == 1
    # Nothing but the log of the run is left of one that cannot be built, and the tool says why.
    (launcher.work / "environment.yml").write_text(f"{text}- nope=3\n")
    failed = launcher.run(*words, "--conda", "environment.yml", "show.py")
    assert (failed.code, failed.receipts[-1]["reason"]) == (125, "no-environment")
    assert "nope=3 does not exist (perhaps a typo or a missing channel)" in failed.err, failed.err
    assert "environment.log" in failed.err


def test_hosts_without_a_tool_are_named(launcher: Launcher, tools: labs.Lab) -> None:
    (launcher.work / "environment.yml").write_text("dependencies: [python, tiny]\n")
    job = launcher.work / "job.yaml"
    job.write_text(
        "run: [python, --version]\nframework: env\nenvironment: {conda: environment.yml}\n"
    )
    tools.hosts["lab2"].run("rm", TOOL)
    checked = launcher.call("check", "--hosts", "lab[1-2]", "--no-pairs", "--job", str(job))
    said = " ".join(checked.stdout.split())
    assert "JOB-BUILDER" in said, checked.stdout
    assert "micromamba 2.0.5 builds the environment of environment.yml" in said
    assert "there is no micromamba, mamba or conda to build" in said
    ran = launcher.run("--hosts", "lab2", str(job))
    assert ran.code == 125
    assert "lab2: there is no micromamba, mamba or conda, and no micromamba here" in ran.err


def test_a_lock_of_pixi(launcher: Launcher, tools: labs.Lab, tmp_path: Path) -> None:
    text = pixi(tmp_path / "pixi").read_bytes()
    host = tools.hosts["lab1"]
    host.run("sh", "-c", "mkdir -p /root/.pixi/bin && cat >/root/.pixi/bin/pixi", input=text)
    host.run("chmod", "755", "/root/.pixi/bin/pixi")
    (launcher.work / "pixi.toml").write_text('[activation]\nscripts = ["on.sh"]\n')
    (launcher.work / "on.sh").write_text("export ON=7\n")
    (launcher.work / "pixi.lock").write_text("version: 6\n")
    launcher.script(SHOW + "print('ON is', os.environ['ON'])\n", "show.py")
    words = ("--hosts", "lab1", "--framework", "torch", "--pixi", ".", "show.py")
    ran = launcher.run(*words)
    assert ran.code == 0, ran.err
    assert "built the environment on 1 host" in ran.err
    assert "/.pixi/envs/default 1.0 /root/.launcher/host/envs/" in ran.out
    assert "ON is 7\n" in ran.out
    visited = launcher.call("exec", "-", "--", "sh", "-c", "echo $ON; command -v python")
    assert "7\n" in visited.stdout
    assert "/.pixi/envs/default/bin/python" in visited.stdout, visited.stderr
