"""One home on several hosts, as by NFS: a folder of this machine is mounted on all of them.

Unlike on NFS, locks and sockets in it are shared as well, which makes more paths collide.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT
from support import lab as labs
from support.command import Launcher, of_runs
from support.hosts import SPECS, need_lab

SCRIPT = """\
import os, sys, time
import part
host, out = os.environ["LAUNCHER_HOST"], os.environ["LAUNCHER_OUTPUT_DIR"]
print(host, part.NUMBER, flush=True)
open(os.path.join(out, "same-name.txt"), "w").write(host)
open(os.path.join(out, host + ".txt"), "w").write(host)
time.sleep(float(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Three hosts with one /root/.launcher."""
    need_lab()
    share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
    nfs = tmp_path_factory.mktemp("nfs")
    nfs.chmod(0o700)
    with labs.Lab(SPECS, tmp_path_factory.mktemp("lab"), share=share) as standing:
        for host in standing.hosts.values():
            host.mount_shared(nfs, "/root/.launcher")
        yield standing


def test_runs_on_hosts_with_one_home(launcher: Launcher, clean: labs.Lab) -> None:
    """All outputs come back, twice with changed code, and two runs at once do not meet."""
    name = launcher.script(SCRIPT)
    for number in (1, 2):
        launcher.script(f"NUMBER = {number}\n", "part.py")
        ran = launcher.run("--nodes", "3", "--framework", "torch", name, "0")
        assert ran.code == 0, ran.err
        newest = max((launcher.home / "runs").iterdir(), key=os.path.getmtime)
        for rank, host in enumerate(clean.hosts):
            log = newest / f"logs/attempt-0/rank-{rank}.out"
            assert log.read_text() == f"{host} {number}\n"
            assert (newest / "outputs" / f"{host}.txt").read_text() == host
        copies = [path.read_text() for path in newest.glob("outputs/same-name*.txt")]
        assert sorted(copies) == sorted(clean.hosts), ran.err
        assert all(h["left"] == 0 and h["logs_complete"] for h in ran.receipts[-1]["hosts"])
    words = ("--nodes", "3", "--framework", "torch", name, "1")
    both = [launcher.start(*words) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, out + err


def test_stop_and_attach_find_every_host(launcher: Launcher, clean: labs.Lab) -> None:
    launcher.script("NUMBER = 3\n", "part.py")
    name = launcher.script(SCRIPT)
    ran = launcher.run("-d", "--nodes", "3", "--framework", "torch", name, "600")
    assert ran.code == 0, ran.err
    assert all(of_runs(host) for host in clean.hosts.values())
    assert launcher.call("stop", "-").returncode == 0
    assert not any(of_runs(host) for host in clean.hosts.values())
    assert [host["left"] for host in ran.receipts[-1]["hosts"]] == [0, 0, 0]


def test_one_machine_under_two_names_is_named(launcher: Launcher, clean: labs.Lab) -> None:
    """Unless it is meant: then each name has a folder of its own."""
    config = clean.root / "twice"
    twin = clean.ssh_config.read_text().replace("Host lab1\n", "Host lab1 twin\n")
    config.write_text(twin)
    known = clean.known_hosts.read_text().replace("lab1,", "lab1,twin,")
    (clean.root / "known_twice").write_text(known)
    config.write_text(twin.replace(str(clean.known_hosts), str(clean.root / "known_twice")))
    launcher.inventory.write_text(f"ssh_config: {config}\nhosts: [lab1, twin, lab2]\n")
    name = launcher.script("import os; print(os.environ['LAUNCHER_HOST'])\n")
    ran = launcher.run("--nodes", "2", "--framework", "torch", "--no-check", name)
    assert ran.code == 125
    assert "lab1, twin: these names lead to one machine, lab1" in ran.err
    assert "shares_machine: true" in ran.err
    done = launcher.call("check", "-i", str(launcher.inventory))
    assert "SET-ONE-MACHINE  lab1,twin" in done.stdout
    launcher.inventory.write_text(
        f"ssh_config: {config}\ndefaults: {{shares_machine: true}}\n"
        "hosts: {lab1: {workdir: /root/one}, twin: {workdir: /root/two}}\n"
    )
    ran = launcher.run("--nodes", "2", "--framework", "torch", name)
    assert ran.code == 0, ran.err
    assert {ran.receipts[-1]["hosts"][n]["host"] for n in (0, 1)} == {"lab1", "twin"}
