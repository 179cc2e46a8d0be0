"""`launcher run` as a user types it: bad input, the plan, and what is shown of logs."""

from __future__ import annotations

import json
import sys

from launcher.spec import nodeset
from support import lab as labs
from support.command import Launcher
from support.scripts import MEET

TALK = (
    "import os, sys\n"
    "rank = os.environ['RANK']\n"
    "print('all say this')\n"
    "print('only', rank)\n"
    "sys.stdout.write('10 %\\r50 %\\r100 %\\n')\n"
    "print('\\x1b]0;title\\x07\\x1b[31mred\\x1b[0m \\x1b[2Jclear')\n"
    "sys.stdout.write('no end')\n"
)


def test_lines_of_ranks_are_folded_and_harmless(launcher: Launcher, clean: object) -> None:
    name = launcher.script(MEET + TALK)
    ran = launcher.run("--nodes", "2", "--nproc-per-node", "2", "--framework", "torch", name)
    assert ran.code == 0, ran.err
    said: dict[str, list[int]] = {}
    for line in ran.out.splitlines():
        place, _, text = line.partition(" │ ")
        ranks = place.strip().partition("[")[2].removesuffix("]")
        said.setdefault(text, []).extend(map(int, nodeset.expand(f"[{ranks}]")))
    every = ["all say this", "100 %", "␛]0;title␇red ␛[2Jclear", "no end"]
    own = {f"only {rank}": [rank] for rank in range(4)}
    assert {text: sorted(ranks) for text, ranks in said.items()} == {
        **{text: [0, 1, 2, 3] for text in every},
        **own,
    }
    # A machine that starves a rank shows its lines later, and apart.
    assert len(ran.out.splitlines()) < 4 * len(every) + len(own), "nothing was folded"
    assert ran.log("rank-3.out").endswith(b"clear\nno end"), "the file has the bytes as they were"
    assert "\x1b" not in ran.out + ran.err, "no terminal, no colours"


def test_ranks_and_raw(launcher: Launcher, clean: object) -> None:
    name = launcher.script(TALK)
    flags = ["--nproc-per-node", "2", "--framework", "torch", "--ranks", "1", "--raw"]
    ran = launcher.run(*flags, name)
    assert ran.code == 0, ran.err
    assert "only 1" in ran.out
    assert "only 0" not in ran.out
    assert "\x1b]0;title\x07" in ran.out
    assert b"only 0" in ran.log("rank-0.out")


def test_the_receipt_as_json(launcher: Launcher, clean: object) -> None:
    """On stdout alone; logs go to stderr then."""
    ran = launcher.run("--json", "--framework", "env", "--", "sh", "-c", "echo said; exit 3")
    assert ran.code == 3
    assert json.loads(ran.out) == {**ran.receipt, "outputs_complete": True}
    assert "said" in ran.err


def test_a_job_has_an_environment_of_its_own(launcher: Launcher, clean: labs.Lab) -> None:
    """On every host its own Python, behind what bash prepares there; ranks of torchrun inherit it."""
    for host in ("lab1", "lab2"):
        clean.hosts[host].run(sys.executable, "-m", "venv", "--without-pip", "/srv/env")
        clean.hosts[host].run("mkdir", "-p", "/root/miniconda3/envs")
        clean.hosts[host].run("ln", "-sfn", "/srv/env", "/root/miniconda3/envs/train")
    launcher.script("import os, sys\nprint(sys.executable, os.environ['PREPARED'])\n", "show.py")
    prepare = 'type module >/dev/null || module() { :; }; export PREPARED="on $LAUNCHER_HOST"'
    for python, place in (
        ("venv:/srv/env", "/srv/env/bin/python"),
        ("conda:train", "/root/miniconda3/envs/train/bin/python"),
    ):
        words = ("--nodes", "2", "--framework", "torch", "--python", python, "--prepare", prepare)
        ran = launcher.run(*words, "show.py")
        assert ran.code == 0, ran.err
        for host in ("lab1", "lab2"):
            assert f"{place} on {host}" in ran.out
    ran = launcher.run("--nodes", "1", "--framework", "torch", "--python", "conda:other", "show.py")
    assert "lab1: there is no conda environment other" in ran.err
    ran = launcher.run("--nodes", "1", "--framework", "env", "--prepare", "false", "echo started")
    assert ran.code == 1
    assert "prepare: ended with exit code 1" in ran.out + ran.err
    assert "started\n" not in ran.out
    script = launcher.script("import os\nprint('rank', os.environ['PREPARED'])\n")
    ran = launcher.run("--nodes", "1", "--prepare", prepare, script)
    assert "rank on lab1" in ran.out
    # A FAKE of Environment Modules, on one host by the inventory.
    fake = "module() { export LOADED=$2; }"
    text = launcher.inventory.read_text().replace("lab2: {}", f"lab2: {{prepare: '{fake}'}}")
    assert fake in text
    launcher.inventory.write_text(text)
    words = ("--hosts", "lab2", "--framework", "env", "--module", "cuda/12.4")
    assert "has cuda/12.4" in launcher.run(*words, "echo has $LOADED").out
    visited = launcher.call("exec", "-", "--", "sh", "-c", "echo visits $LOADED")
    assert visited.stdout.endswith("visits cuda/12.4\n"), visited.stderr
