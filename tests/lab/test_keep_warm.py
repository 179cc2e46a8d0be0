"""What a run has imported is kept for the next one (--keep-warm), on real hosts."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest

from support import journals
from support import lab as labs
from support.command import Launcher, of_runs

#: Where a host has a package of its own, which counts how often it is imported.
PACKAGES = "/root/packages"
COUNTS = "with open('/root/imports', 'a') as file:\n    file.write('imported\\n')\n"
RUN = ("--nodes", "2", "--framework", "torch", "--env", f"PYTHONPATH={PACKAGES}", "--grace", "1s")
KEEP = ("--preload", "big", "--keep-warm", "5m")
SCRIPT = "import sys\nprint('big', 'big' in sys.modules, sys.argv[1:], __file__, flush=True)\n1 / (int(sys.argv[1]) - 3)\n"


@pytest.fixture(autouse=True)
def _packages(clean: labs.Lab):
    for host in clean.hosts.values():
        host.run("sh", "-c", f"rm -rf /root/imports {PACKAGES}; mkdir -p {PACKAGES}")
        host.write(f"{PACKAGES}/big.py", COUNTS.encode())
    yield
    for host in clean.hosts.values():
        for pid in _keepers(host):
            host.run("kill", "-9", str(pid), check=False)


def _keepers(host: labs.LabHost) -> list[int]:
    """The processes on a host that keep a Python for the next run."""
    return [one.pid for one in host.processes() if "kept" in one.argv and "start.py" in " ".join(one.argv)]


def _counted(lab: labs.Lab, name: str = "lab1") -> int:
    return lab.hosts[name].run("cat", "/root/imports", check=False).stdout.count(b"imported")


def _events(launcher: Launcher, kind: str) -> list[dict[str, object]]:
    files = sorted(launcher.home.glob("runs/*/events.jsonl"), key=lambda file: file.stat().st_mtime)
    events = [event for file in files for event in journals.lines(file.read_bytes())]
    return [event for event in events if event["event"] == kind]


def test_the_next_run_is_forked_from_what_the_last_one_imported(
    launcher: Launcher, clean: labs.Lab
) -> None:
    launcher.script(SCRIPT)
    for number in (1, 2, 3):
        ran = launcher.run(*RUN, *KEEP, "train.py", str(number))
        assert ran.code == 0, ran.err
        assert f"big True ['{number}']" in ran.out
        assert "nothing left running" in ran.out + ran.err
        print(ran.out, ran.err)
        assert _counted(clean) == 1, clean.hosts["lab1"].run("sh", "-c", "cat /root/.launcher*/warm/*/keeper.log; ls -la /root/.launcher*/warm/*; ps aux").stdout.decode()
