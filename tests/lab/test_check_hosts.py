"""`launcher check`, each host by itself: every fault is caused on a real host (broken_hosts.py), found by
its code, and gone after what the fix says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import ROOT
from support import lab as labs
from support.broken_hosts import BROKEN, REPAIRED, SPECS, break_all, inventory_of, repair_all
from support.checked import BEHIND, Checked, check
from support.command import Launcher
from support.hosts import need_lab

ALONE = ("--no-pairs",)


@dataclass
class Story:
    """The same hosts broken, and repaired."""

    broken: Checked
    shown: subprocess.CompletedProcess[str]
    fixed: Checked
    after: Checked
    orphan_lives: bool
    behind: Checked
    between: Checked


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    need_lab()
    place = tmp_path_factory.mktemp("check")
    share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
    with labs.Lab(SPECS, place / "lab", share=share) as lab:
        launcher = Launcher(place / "inventory.yaml", place, place / "home")
        launcher.inventory.write_text(inventory_of(lab, BROKEN))
        break_all(lab)
        mark = launcher.home / "unfinished" / "old-run-2.json"
        mark.parent.mkdir(parents=True)
        mark.write_text('["well"]')
        with ThreadPoolExecutor() as both:
            words = (*ALONE, "--hosts", "well,name,login,gpu,shm,torch")
            seen = both.submit(launcher.call, "check", "-i", str(launcher.inventory), *words)
            broken = check(launcher, *ALONE)
            shown = seen.result()
        between = check(launcher, "--hosts", "well,clock")
        repair_all(lab)
        launcher.inventory.write_text(inventory_of(lab, REPAIRED))
        fixed = check(launcher, *ALONE, "--fix", "--hosts", "gpu,well")
        alive = any(
            "sleep" in p.argv and "LAUNCHER_RUN_DIR" in p.environ
            for p in lab.hosts["gpu"].processes()
        )
        after = check(launcher, *ALONE)
        behind = check(launcher, *ALONE, "--hosts", "name,disk", program=BEHIND)
        yield Story(broken, shown, fixed, after, alive, behind, between)


#: Host, code, level, what the evidence says, what the fix says.
CAUSED = [
    ("rsync", "RSYNC-MISSING", "error", "no rsync", "apt install rsync"),
    ("key", "SSH-KEY-CHANGED", "error", "the host key changed", "ssh-keygen -R"),
    (
        "new",
        "SSH-KEY-UNKNOWN",
        "error",
        "is not in known_hosts",
        "ask the admin for the fingerprint",
    ),
    ("frozen", "SSH-FROZEN", "error", "does not answer", "frozen"),
    ("off", "SSH-UNREACHABLE", "error", "", ""),
    ("refused", "SSH-REFUSED", "error", "nothing listens", "is sshd running"),
    ("login", "SSH-LOGIN", "error", "login as root@", "ssh-copy-id login"),
    ("python", "PYTHON-MISSING", "error", "/nowhere/python", "python: in the inventory"),
    ("old", "PYTHON-OLD", "error", "old-python is Python 3.6", "3.8 or newer"),
    ("broken", "HOST-BROKEN", "error", "libc.so.7: missing", "broken-python -V"),
    ("mute", "PYTHON-SILENT", "error", "failed without an answer", "import site"),
    ("handshake", "SSH-BROKEN", "error", " failed: ", "does `ssh handshake` work"),
    ("readonly", "DISK-READ-ONLY", "error", "Read-only file system", "that you may write"),
    ("clock", "LIMIT-MEMLOCK", "warning", "64 KiB may be locked", "memlock unlimited"),
    ("clock", "SET-PYTHON", "warning", "Python 3.9 on clock", "same version"),
    ("torch", "SET-NCCL", "warning", "NCCL 2.21.5 on torch", "same version"),
    ("torch", "SET-HOROVOD", "warning", "horovod 0.27.0 on torch", "same version"),
    ("driver", "SET-DRIVER", "warning", "driver 570 on driver", "same driver"),
    ("disk", "DISK-FULL", "error", "MB free at /root", "workdir:"),
    ("folders", "DISK-LOW", "warning", "MB free at /root", "workdir:"),
    ("folders", "LEFT-FOLDERS", "warning", "1 folders of earlier runs take 34 MB", "launcher rm"),
    ("shm", "DISK-SHM", "warning", "58 MB free in /dev/shm", "remount"),
    ("shm", "LEFT-SHM", "warning", "1 segments that no process uses take 8 MB", "ls -l /dev/shm"),
    ("shm", "TORCH-MISSING", "warning", "/usr/bin/python3", "-m pip install torch"),
    ("clock", "LIMIT-NOFILE", "warning", "256 open files", "nofile"),
    ("clock", "CLOCK-OFFSET", "error", "120.0 s ahead", "set-ntp"),
    ("name", "NET-LOOPBACK-NAME", "warning", "resolves to 127.0.1.1", "/etc/hosts"),
    ("silent", "NET-NAME-WRONG", "warning", "resolves to 10.255.1.1", "/etc/hosts"),
    ("torch", "NET-NAME-UNKNOWN", "warning", "cannot resolve its own name", "/etc/hosts"),
    ("rsync", "NET-NAME-SLOW", "warning", "not resolve within 2 s", "resolv.conf"),
    (
        "well",
        "NET-INTERFACE-UNKNOWN",
        "error",
        "interface: et1; the host has eth0 up",
        "interface: eth0",
    ),
    ("gpu", "GPU-COUNT", "error", "says 8 GPUs, nvidia-smi finds 4", "gpus: 4"),
    ("gpu", "GPU-ECC", "error", "GPU 3: 3 uncorrectable", "ROW_REMAPPER"),
    ("gpu", "GPU-XID", "warning", "Xid 79 at 0000:4f:00", "reset the GPU"),
    ("gpu", "GPU-FOREIGN", "warning", "GPU 2 is used by nobody outside launcher", "ask nobody"),
    ("gpu", "TORCH-NO-CUDA", "error", "2.13.0+cpu was built without CUDA", "CUDA build"),
    ("gpu", "LEFT-ORPHANS", "warning", "left from old-run-1: pid", "--fix"),
    ("well", "LEFT-UNFINISHED", "warning", "old-run-2 was abandoned", "--fix"),
    (
        "driver",
        "DRIVER-OLD",
        "error",
        "driver 570.10; torch 2.13.0 with CUDA 13.0 needs 580.65",
        "",
    ),
    ("silent", "GPU-SILENT", "warning", "nvidia-smi exists but fails", "nvidia-smi"),
    ("torch", "SET-TORCH", "warning", "torch 2.11.0 on torch", "same version"),
    ("torch", "SET-CUDA", "warning", "CUDA 12.8 on torch", "same version"),
]


@pytest.mark.parametrize(("host", "code", "level", "evidence", "fix"), CAUSED)
def test_each_fault_is_found(
    story: Story, host: str, code: str, level: str, evidence: str, fix: str
) -> None:
    found = story.broken.of(host)[code]
    assert found["level"] == level
    assert evidence in found["evidence"]
    assert fix in found["fix"]


def test_nothing_else_is_found(story: Story) -> None:
    """Nor a program's own Xid, nor a second finding for the same thing."""
    expected = {(host, code) for host, code, *_ in CAUSED if not code.startswith("SET-")}
    alone = [f for f in story.broken.told["findings"] if not f["code"].startswith(("SET-", "NET-"))]
    names = {(host, f["code"]) for f in alone for host in f["hosts"]}
    assert names == {pair for pair in expected if not pair[1].startswith("NET-")}
    assert story.broken.code == 1
    assert not any("Xid 31" in f["evidence"] for f in story.broken.told["findings"])


def test_odd_ones_out_are_folded(story: Story) -> None:
    (torch,) = [f for f in story.broken.told["findings"] if f["code"] == "SET-TORCH"]
    assert torch["evidence"].endswith("torch 2.11.0 on torch")
    assert torch["evidence"].startswith("torch 2.13.0+cpu on ")


def test_green_after_the_fixes(story: Story) -> None:
    """All that was broken is whole; a fake torch on two hosts is all that still differs."""
    codes = {f["code"] for f in story.after.told["findings"]}
    assert codes <= {"SET-TORCH", "SET-CUDA", "SET-GPUS", "DISK-LOW", "NET-NAME-PRIVATE"}, codes
    assert story.after.code == 0


def test_a_clock_of_ours_that_is_wrong(story: Story) -> None:
    """All hosts agree with each other: it is not they who are told to set their clocks."""
    (clock,) = [f for f in story.behind.told["findings"] if f["code"] == "CLOCK-OFFSET"]
    assert clock["hosts"] == ["this machine"]
    assert clock["evidence"] == "the clock is 120.0 s behind the others'"
    assert (clock["level"], story.behind.code) == ("error", 1)


def test_a_pair_that_cannot_be_tried(story: Story) -> None:
    (pair,) = [f for f in story.between.told["findings"] if f["code"] == "NET-UNTESTED"]
    assert (pair["hosts"], pair["there"], pair["level"]) == (["well"], ["clock"], "warning")
    assert pair["evidence"] == "clock could not listen"


def test_fix_ends_what_was_left(story: Story) -> None:
    assert sorted(story.fixed.told["fixed"]) == [
        "gpu: killed 1 process of earlier runs",
        "well: cleaned up leftovers of old-run-2",
    ]
    assert not story.orphan_lives
    assert "LEFT-ORPHANS" not in story.fixed.of("gpu")


def test_what_a_person_sees(story: Story) -> None:
    lines = story.shown.stdout.splitlines()
    assert lines[0].split()[:3] == ["hosts", "python", "torch"] or lines[0].startswith("hosts")
    assert "error    SSH-LOGIN  login" in lines
    assert story.shown.stderr == ""
    assert "\x1b" not in story.shown.stdout
    assert max(map(len, lines)) <= 110
    assert story.shown.returncode == 1
