"""Public projects, as their README starts them: `make test-projects`.

First its own commands run by hand, once on each host with addresses and ranks filled in, then the same by
launcher. docs/guides/public-projects.md has the commands, and support/projects.py the table.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support import lab as labs
from support.command import Launcher, Ran
from support.environments import python_of
from support.framework_lab import with_python_of
from support.projects import MARK, PROJECTS, Project, by_hand, end, fill, introduce

pytestmark = pytest.mark.timeout(600)

#: Seconds between two looks at a project that may hang as Python ends, and how many of them in silence,
#: after it has said all, make a hang of it.
LOOKS, QUIET = 4.0, 6


@pytest.mark.parametrize("project", PROJECTS, ids=lambda one: one.name.replace(" ", "-").lower())
def test_it_runs_as_it_is(
    project: Project,
    lab: labs.Lab,
    launcher: Launcher,
    clean: labs.Lab,
    times: dict[str, tuple[float, float]],
    faults: list[str],
) -> None:
    ours = with_python_of(project.python, lab, launcher)
    python = python_of(project.python)
    fill(project, python, launcher.work)
    hand = _time_by_hand(project, lab, launcher, faults)
    words = project.words(python)
    began = time.monotonic()
    stall = ("--stall-timeout", "30s", "--on-stall", "stop") if project.aborts else ()
    ran = ours.run(*project.flags, *stall, *words, timeout=300)
    times[project.name] = (hand, time.monotonic() - began)
    fault = _fault_of(ran) if project.aborts else ""
    assert ran.code == 0 or fault, ran.err[-6000:]
    faults += [f"{project.name}, by launcher: {fault}"] if fault else []
    assert len(ran.receipt["hosts"]) == 2
    logs = "".join(
        file.read_text("utf-8", "replace") for file in (ran.folder / "logs").rglob("*.???")
    )
    assert re.search(project.says, logs), logs[-4000:]
    if project.output:
        assert any(
            output["path"].startswith(project.output) for output in ran.receipt["outputs"]
        ), ran.receipt["outputs"]


def _fault_of(ran: Ran) -> str:
    """Return what launcher says of a project that aborts or hangs as Python ends; "" without that."""
    cause = (ran.receipt["failure"] or {}).get("cause") or ""
    error = ran.receipt["error"] or ""
    if cause.startswith("a thread of a library"):
        return str(cause)
    ends = ("threads of torch's gloo", "a thread of torch's gloo")
    return str(error) if any(one in error for one in ends) else ""


def _time_by_hand(project: Project, lab: labs.Lab, launcher: Launcher, faults: list[str]) -> float:
    introduce(lab)
    hosts = list(lab.hosts.values())
    back = launcher.work.with_name("by hand")
    back.mkdir()
    ssh = f"ssh -F {shlex.quote(str(lab.ssh_config))}"
    script = by_hand(project, hosts, python_of(project.python), launcher.work, ssh, back)
    output = launcher.work.with_name("said by hand")
    fault = ""
    began = time.monotonic()
    with output.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", script], stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        quiet, size = 0, 0
        while project.aborts and process.poll() is None and not fault:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOKS)
            worked = re.search(project.says, output.read_text("utf-8", "replace"))
            before, size = size, output.stat().st_size
            quiet = quiet + 1 if worked and size == before else 0
            fault = _ending(lab) if quiet >= QUIET and process.poll() is None else ""
            if fault:
                end(lab)
        process.wait()
    took = time.monotonic() - began
    end(lab)
    said = output.read_text("utf-8", "replace")
    if project.aborts and "terminate called without an active exception" in said:
        fault = "terminate called without an active exception"
    assert process.returncode == 0 or fault, f"{project.name} by hand:\n{said[-4000:]}"
    assert re.search(project.says, said), said[-4000:]
    faults += [f"{project.name}, by hand: {fault}"] if fault else []
    return took


def _ending(lab: labs.Lab) -> str:
    """Return where processes with threads of gloo are, which have said all and do not end; "" for none."""
    found = ""
    py_spy = str(Path(sys.prefix, "bin", "py-spy"))
    for host in lab.hosts.values():
        for process in host.processes():
            if MARK not in process.environ:
                continue
            pid = str(process.pid)
            threads = host.run("sh", "-c", f"cat /proc/{pid}/task/*/comm", check=False)
            if b"pt_gloo_runloop" in threads.stdout:
                dump = host.run(py_spy, "dump", "--pid", pid, check=False)
                where = (dump.stdout + dump.stderr).decode("utf-8", "replace")
                found += f"{host.name}: it has said all, and does not end\n{where}"
    return found
