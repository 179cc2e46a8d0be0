"""Modules that hosts import ahead of their ranks (--preload), on real hosts."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from support import lab as labs
from support.command import Launcher, of_runs

#: Where a host has a package of its own.
PACKAGES = "/root/packages"
RUN = ("--nodes", "2", "--framework", "torch", "--env", f"PYTHONPATH={PACKAGES}", "--grace", "1s")
HANGS = "import os, time\nif os.environ['LAUNCHER_HOST'] == 'lab1': time.sleep(600)\n"


def _give(lab: labs.Lab, text: str) -> None:
    """Give every host a module ``big``."""
    for host in lab.hosts.values():
        host.run("mkdir", "-p", PACKAGES)
        host.write(f"{PACKAGES}/big.py", text.encode())


def _imports(lab: labs.Lab) -> list[int]:
    """The helpers on the first host."""
    there = of_runs(lab.hosts["lab1"])
    return [process.pid for process in there if "LAUNCHER_PRELOAD" in process.environ]


def _events(launcher: Launcher, kind: str) -> list[dict[str, object]]:
    files = list(launcher.home.glob("runs/*/events.jsonl"))
    lines = [line for file in files for line in file.read_text().splitlines()]
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def test_ranks_train_with_a_torch_that_was_imported_before(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Also in an environment that bash activates."""
    launcher.script(
        "import sys, os\n"
        "before = 'torch' in sys.modules\n"
        "import torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "grown = torch.ones(2) * (dist.get_rank() + 1)\n"
        "dist.all_reduce(grown)\n"
        "print('before', before, grown.tolist(), os.environ.get('VIRTUAL_ENV'), flush=True)\n"
        "dist.destroy_process_group()\n"
    )
    words = ("--nodes", "2", "--framework", "torch", "--nproc-per-node", "2")
    ran = launcher.run(*words, "--venv", sys.prefix, "--preload", "torch", "train.py", timeout=300)
    assert ran.code == 0, ran.err
    for rank in range(4):
        log = ran.log(f"rank-{rank}.out").decode()
        assert log == f"before True [10.0, 10.0] {sys.prefix}\n"
    assert not _events(launcher, "StartedCold")
    assert "preload  torch imported on lab[1-2] in " in launcher.call("show", "-").stdout


def test_ctrl_c_while_modules_are_imported(launcher: Launcher, clean: labs.Lab) -> None:
    _give(clean, HANGS)
    launcher.script("print('never')\n")
    process = launcher.start(*RUN, "--preload", "big", "train.py")
    labs.wait_until(lambda: len(_events(launcher, "Preloaded")) == 1, "lab2 has imported", 40)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"nothing left running" in err + out and b"never" not in out


@pytest.mark.parametrize("who", ["helper", "launcher"])
def test_kill_9_while_modules_are_imported(launcher: Launcher, clean: labs.Lab, who: str) -> None:
    _give(clean, HANGS)
    launcher.script("import sys\nprint('ran', 'big' in sys.modules)\n")
    process = launcher.start(*RUN, "--preload", "big", "train.py")
    labs.wait_until(lambda: len(_events(launcher, "Preloaded")) == 1, "lab2 has imported", 40)
    if who == "helper":
        (pid,) = _imports(clean)
        clean.hosts["lab1"].run("kill", "-9", str(pid))
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert b"lab1: not preloaded: the Python that imports ended" in out + err
        assert b"ran False" in out and b"ran True" in out
        return
    process.kill()
    process.communicate(timeout=60)
    run = next(launcher.home.glob("runs/*")).name
    assert launcher.call("stop", run).returncode in (0, 130)
    assert not [one.argv for host in clean.hosts.values() for one in of_runs(host)]


def test_what_keeps_ranks_from_being_forked_is_said_and_they_run(
    launcher: Launcher, clean: labs.Lab
) -> None:
    _give(clean, "")
    launcher.script("import os\nos.environ['OMP_NUM_THREADS'] = '2'\nimport big\nprint('ran')\n")
    ran = launcher.run(*RUN, "--preload", "big", "train.py")
    assert ran.code == 0 and ran.out.count("ran") >= 1, ran.err
    why = "lab1: ranks import for themselves: train.py:2 OMP_NUM_THREADS is set before the import"
    assert why in ran.out + ran.err
    ran = launcher.run(*RUN, "--preload", "big", "--prepare", "ulimit -n 512", "train.py")
    assert ran.code == 0, ran.err
    assert "lab2: not preloaded: prepare: may differ between ranks" in ran.out + ran.err
    ran = launcher.run("--nodes", "2", "--preload", "big", "train.py")
    assert ran.code == 2 and "--framework torch starts the same scripts" in ran.err


def test_what_setup_installs_is_imported_for_each_attempt(
    launcher: Launcher, clean: labs.Lab
) -> None:
    for host in clean.hosts.values():
        host.run("rm", "-rf", PACKAGES)
    setup = f"mkdir {PACKAGES}; echo > {PACKAGES}/big.py"
    launcher.script(
        "import os, sys\nprint('ran', 'big' in sys.modules, flush=True)\n"
        "sys.exit(os.environ['LAUNCHER_ATTEMPT'] == '0' and os.environ['RANK'] == '1')\n"
    )
    words = ("--max-restarts", "1", "--setup", setup, "--preload", "big")
    ran = launcher.run(*RUN, *words, "train.py")
    assert ran.code == 0, ran.err
    assert ran.log("rank-0.out", 1) == ran.log("rank-1.out", 1) == b"ran True\n"
    done = [(one["host"], one["attempt"]) for one in _events(launcher, "Preloaded")]
    assert sorted(map(str, done)) == [str((h, n)) for h in ("lab1", "lab2") for n in (0, 1)]


def test_code_that_is_edited_is_what_a_forked_rank_runs(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """The helper starts before there is any code, and whatever an earlier run had there."""
    _give(clean, "")
    for number in (1, 2):
        launcher.script(f"import own, sys\nprint('text {number}', own.N, 'big' in sys.modules)\n")
        launcher.script(f"N = {number}\n", "own.py")
        ran = launcher.run(*RUN, "--preload", "big", "train.py")
        assert ran.code == 0, ran.err
        assert ran.out.count(f"text {number} {number} True") >= 1, ran.out
