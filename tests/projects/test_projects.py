"""Public projects, as their README starts them: `make test-projects`.

First its own commands run by hand, once on each host with addresses and ranks filled in, then the same by
launcher. docs/guides/public-projects.md has the commands, and support/projects.py the table.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import time

import pytest

from support import lab as labs
from support.command import Launcher
from support.environments import python_of
from support.framework_lab import with_python_of
from support.projects import PROJECTS, Project, by_hand, end, fill, introduce

pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda one: one.name.replace(" ", "-").lower())
def test_it_runs_as_it_is(
    project: Project,
    lab: labs.Lab,
    launcher: Launcher,
    clean: labs.Lab,
    times: dict[str, tuple[float, float]],
) -> None:
    ours = with_python_of(project.python, lab, launcher)
    python = python_of(project.python)
    fill(project, python, launcher.work)
    hand = _time_by_hand(project, lab, launcher)
    words = project.words(python)
    began = time.monotonic()
    ran = ours.run(*project.flags, *words, timeout=300)
    times[project.name] = (hand, time.monotonic() - began)
    cause = (ran.receipt["failure"] or {}).get("cause", "") if project.aborts else ""
    assert ran.code == 0 or cause.startswith("a thread of a library"), ran.err[-6000:]
    assert len(ran.receipt["hosts"]) == 2
    logs = "".join(
        file.read_text("utf-8", "replace") for file in (ran.folder / "logs").rglob("*.???")
    )
    assert re.search(project.says, logs), logs[-4000:]
    if project.output:
        assert any(
            output["path"].startswith(project.output) for output in ran.receipt["outputs"]
        ), ran.receipt["outputs"]


def _time_by_hand(project: Project, lab: labs.Lab, launcher: Launcher) -> float:
    introduce(lab)
    hosts = list(lab.hosts.values())
    back = launcher.work.with_name("by hand")
    back.mkdir()
    ssh = f"ssh -F {shlex.quote(str(lab.ssh_config))}"
    script = by_hand(project, hosts, python_of(project.python), launcher.work, ssh, back)
    began = time.monotonic()
    done = subprocess.run(
        ["bash", "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    took = time.monotonic() - began
    end(lab)
    said = done.stdout.decode("utf-8", "replace")
    aborted = project.aborts and "terminate called without an active exception" in said
    assert done.returncode == 0 or aborted, f"{project.name} by hand:\n{said[-4000:]}"
    assert re.search(project.says, said), said[-4000:]
    return took
