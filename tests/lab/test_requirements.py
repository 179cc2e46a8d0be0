"""A host whose Python lacks the framework is told by name, before anything is started."""

from __future__ import annotations

import json
import sys

import pytest

from support import lab as labs
from support.command import Launcher

PLAIN = "/usr/bin/python3"  # without torch; the other host has the tests' own, with it


def _mixed(lab: labs.Lab, launcher: Launcher) -> None:
    text = labs.inventory(lab, sys.executable)
    launcher.inventory.write_text(text.replace("lab2: {}", f"lab2: {{python: {PLAIN}}}"))


@pytest.mark.parametrize("framework", ["torchrun", "torch", "horovod"])
def test_a_host_without_the_framework(launcher: Launcher, clean: labs.Lab, framework: str) -> None:
    if framework == "horovod":
        pytest.importorskip("horovod", reason="horovod is not built here: make horovod")
    _mixed(clean, launcher)
    module = "horovod" if framework == "horovod" else "torch"
    name = launcher.script(f"import {module}\n")
    ran = launcher.run("--hosts", "lab1,lab2", "--framework", framework, name)
    assert ran.code == 125
    assert f"error: lab2: framework {framework} needs {module}, which {PLAIN} (Python 3." in ran.err
    how = {"horovod": "launcher bootstrap --with horovod"}
    assert how.get(module, f"{PLAIN} -m pip install {module} adds it there") in ran.err
    told = [json.loads(line) for line in (ran.folder / "events.jsonl").read_text().splitlines()]
    assert not [event for event in told if event["event"] in ("ProcessStarted", "HostsMet")]
    assert [host["left"] for host in ran.receipt["hosts"]] == [0, 0]


def test_what_setup_installs_is_found(launcher: Launcher, clean: labs.Lab) -> None:
    """Where the job's own variables say; and a script that needs no torch is not asked for it."""
    launcher.inventory.write_text(labs.inventory(clean, PLAIN))
    (launcher.work / "job.yaml").write_text(
        "framework: torch\nrun: train.py\nnum_nodes: 2\nenvs: {PYTHONPATH: /tmp/site-of-wanted}\n"
    )
    launcher.script("import torch\nprint(torch.WORD)")
    refused = launcher.run("job.yaml")
    assert refused.code == 125 and "which /usr/bin/python3" in refused.err
    assert "does not have; nor does lab2" in refused.err
    setup = "mkdir -p /tmp/site-of-wanted/torch; echo WORD=7 >/tmp/site-of-wanted/torch/__init__.py"
    ran = launcher.run("--setup", setup, "job.yaml")
    assert (ran.code, [line.split()[-1] for line in ran.out.splitlines()]) == (0, ["7"]), ran.err
    launcher.script("print(8)")
    assert launcher.run("--framework", "torch", "train.py").code == 0
    launcher.script("import sys; sys.path.append('/elsewhere'); import jax")
    insists = launcher.run("--framework", "jax", "--no-check", "train.py")
    assert insists.code == 1 and "No module named 'jax'" in insists.err
