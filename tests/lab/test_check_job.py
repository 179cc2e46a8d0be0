"""`launcher check --job`: would it fit, and does every host have what it needs?"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from support import lab as labs
from support.checked import check
from support.command import Launcher

SCRIPT = """
import json, numpy
import nosuch_module.deep
import helper
try:
    import not_needed
except ImportError:
    not_needed = None
"""
JOB = (
    "run: train.py --data /srv/data\nnum_nodes: 2\nneeds: /srv/data\nenvs: {PYTHONPATH: /srv/py}\n"
)


def test_a_job_before_and_after_it_has_what_it_needs(clean: labs.Lab, launcher: Launcher) -> None:
    """A module and a dataset that one host lacks; the fix makes it green, and it would fit."""
    launcher.script(SCRIPT)
    launcher.script("import also_missing\n", "helper.py")
    (launcher.work / "job.yaml").write_text(JOB)
    lab1, lab2 = clean.hosts["lab1"], clean.hosts["lab2"]
    for name in ("nosuch_module/__init__.py", "also_missing.py"):
        lab1.write(f"/srv/py/{name}", b"")
    lab2.write("/srv/data/x", b"")
    words = ("--no-pairs", "--job", "job.yaml", "--hosts", "lab1,lab2")
    try:
        lacking = check(launcher, *words)
        imports, needs = lacking.of("lab2")["JOB-IMPORT"], lacking.of("lab1")["JOB-NEEDS"]
        assert lacking.code == 1
        assert imports["level"] == needs["level"] == "error"
        assert "cannot find also_missing, nosuch_module, which" in imports["evidence"]
        assert "pip install" in imports["fix"]
        assert "/srv/data is missing or unreadable" in needs["evidence"]
        assert "JOB-IMPORT" not in lacking.of("lab1")
        assert "JOB-NEEDS" not in lacking.of("lab2")
        for name in ("nosuch_module/__init__.py", "also_missing.py"):
            lab2.write(f"/srv/py/{name}", b"")
        lab1.write("/srv/data/x", b"")
        whole = check(launcher, *words)
        assert whole.code == 0
        assert whole.of("lab1")["JOB-FITS"]["evidence"] == "2 ranks without GPUs"
        assert whole.told["chosen"] == ["lab1", "lab2"]
    finally:
        for host in (lab1, lab2):
            host.hide("/srv/py")
            host.hide("/srv/data")


def test_a_secret_of_a_job_is_nowhere(clean: labs.Lab, launcher: Launcher) -> None:
    """Not in what is printed or kept here, nor in any process of the host while it is asked."""
    launcher.script("import os")
    (launcher.work / "job.yaml").write_text("run: train.py\nsecrets: [HUSH]\n")
    launcher.env["HUSH"] = "xyzzy-very-secret"
    host = clean.hosts["lab1"]
    words = [
        "check",
        "-i",
        str(launcher.inventory),
        "--json",
        "--hosts",
        "lab1",
        "--job",
        "job.yaml",
    ]
    asking = subprocess.Popen(
        [sys.executable, "-m", "launcher", *words],
        cwd=launcher.work,
        env=launcher.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    seen = set()
    while asking.poll() is None:
        for process in host.processes():
            seen.add(process.pid)
            assert "xyzzy" not in " ".join([*process.argv, *process.environ.values()])
        assert b"xyzzy" not in Path(f"/proc/{asking.pid}/cmdline").read_bytes()
    said, _ = asking.communicate()
    assert b"JOB-FITS" in said
    assert b"xyzzy" not in said
    assert seen, "nothing of it ran on the host"
    for place in (launcher.home, host.path("/root/.launcher")):
        found = subprocess.run(["grep", "-r", "xyzzy", place], capture_output=True, check=False)
        assert not found.stdout


def test_a_job_that_does_not_fit_and_a_python_without_torch(
    clean: labs.Lab, launcher: Launcher
) -> None:
    launcher.inventory.write_text(labs.inventory(clean, "/usr/bin/python3"))
    launcher.script("print(1)")
    (launcher.work / "job.yaml").write_text("run: train.py\nresources: {gpus: 4}\n")
    found = check(launcher, "--job", "job.yaml", "--hosts", "lab1")
    assert found.code == 1
    assert "gpus: 4: the hosts have no GPUs" in found.of("lab1")["JOB-NO-FIT"]["evidence"]
    (launcher.work / "job.yaml").write_text("run: train.py\n")
    found = check(launcher, "--job", "job.yaml", "--hosts", "lab1,lab3")
    assert [(pair["host"], pair["there"]) for pair in found.told["pairs"]] == [
        ("lab1", "lab3"),
        ("lab3", "lab1"),  # through a jump host from here, straight from there
    ]
    codes = {f["code"] for f in found.told["findings"] if not f["code"].startswith("NET-")}
    assert codes == {"JOB-FRAMEWORK", "JOB-FITS"}
    assert found.of("lab1")["JOB-FRAMEWORK"]["level"] == "error"
    assert "framework torchrun needs torch" in found.of("lab1")["JOB-FRAMEWORK"]["evidence"]
    (launcher.work / "job.yaml").write_text(
        "run: train.py\nframework: mxnet\nsetup: 'true'\n"
        "roles: {scheduler: {}, server: {}, worker: {}}\n"
    )
    lacks = check(launcher, "--job", "job.yaml", "--hosts", "lab1").of("lab1")["JOB-FRAMEWORK"]
    assert "framework mxnet needs mxnet" in lacks["evidence"]
    assert lacks["level"] == "warning", "its setup may bring it"
    assert lacks["evidence"].endswith("its setup: may install it")
