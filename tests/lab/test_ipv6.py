"""Hosts with IPv6 alone, and beside hosts with IPv4: real sshd, real torch, no address of theirs in IPv4."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import ROOT
from support import lab as labs
from support.command import Launcher, of_runs
from support.hosts import need_lab
from support.scripts import TRAIN

SPECS = (
    labs.HostSpec("six1", families="6", gpus=1),
    labs.HostSpec("six2", families="6", gpus=1, interface="enp3s0"),
    labs.HostSpec("both", families="46", gpus=1),
    labs.HostSpec("four", families="4", gpus=1),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[labs.Lab]:
    """Two hosts with IPv6 alone, one with both, one with IPv4 alone."""
    need_lab()
    share = [Path(sys.prefix), *([] if Path(sys.prefix).is_relative_to(ROOT) else [ROOT])]
    with labs.Lab(SPECS, tmp_path_factory.mktemp("lab6"), share=share) as standing:
        yield standing


def test_ddp_trains_over_ipv6_by_torchrun(launcher: Launcher, clean: labs.Lab) -> None:
    name = launcher.script(TRAIN)
    address = clean.hosts["six1"].address
    ran = launcher.run("--hosts", "six[1-2]", "--gpus", "2", "-e", "TOKEN=t", name)
    assert ran.code == 0, ran.err
    assert f"master {address} port" in ran.err
    for rank, host in enumerate(("six1", "six2")):
        assert f"of 2 on {host} learned True".encode() in ran.log(f"rank-{rank}.out")


def test_the_frameworks_ssh_and_a_failure_reach_all_hosts(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Over the hosts' own relay, and with the launcher gone: they tell each other of the failure."""
    ran = launcher.run("--hosts", "six[1-2]", "--framework", "ssh", "ssh six2 hostname")
    assert ran.code == 0, ran.err
    assert ran.log("node-0.out") == b"six2\n"
    name = launcher.script("import time; print('up', flush=True); time.sleep(600)\n")
    words = ("--hosts", "six[1-2]", "--gpus", "2", "--framework", "torch", "--name", "told", name)
    process = launcher.start(*words)
    labs.wait_until(
        lambda: (
            len([p for p in launcher.home.glob("runs/told-*/logs/*/*.out") if p.stat().st_size])
            == 2
        ),
        "output of both ranks",
    )
    process.kill()
    process.communicate()
    here, there = clean.hosts["six1"], clean.hosts["six2"]
    (rank_1,) = (p for p in of_runs(there) if p.environ.get("RANK") == "1")
    there.run("kill", "-9", str(rank_1.pid))
    labs.wait_until(lambda: not [p for p in of_runs(here) if "RANK" in p.environ], "the end", 30)
    assert launcher.call("attach", "-").returncode == 137


def test_check_measures_pairs_over_ipv6(launcher: Launcher, lab: labs.Lab) -> None:
    done = launcher.call("check", "-i", str(launcher.inventory), "--hosts", "six[1-2]")
    assert "network  " in done.stdout
    assert "bit/s" in done.stdout
    assert not [
        word for word in done.stdout.split() if word.startswith("NET-") and "NAME" not in word
    ]


def test_hosts_of_both_kinds_meet_by_what_all_of_them_have(
    launcher: Launcher, clean: labs.Lab
) -> None:
    """Before anything is copied it is an error when there is no such thing."""
    see = "echo at $MASTER_ADDR"
    for hosts, address in (("both,four", clean.hosts["both"].address), ("six1,both", "fd1a:")):
        ran = launcher.run("--hosts", hosts, "--framework", "env", see)
        assert ran.code == 0, ran.err
        assert f"at {address}" in ran.out
    ran = launcher.run("--hosts", "six1,both,four", "--framework", "env", see)
    assert ran.code == 2
    assert "the hosts cannot reach each other: IPv4 alone on four, IPv6 alone on six1" in ran.err
    done = launcher.call("check", "-i", str(launcher.inventory), "--hosts", "six1,both,four")
    assert "NET-IP-VERSION" in done.stdout
    assert "NET-NO-ROUTE" not in done.stdout
    ran = launcher.run("--hosts", "six[1-2]", "--framework", "mxnet", "x.py")
    assert "mxnet needs" in ran.err
