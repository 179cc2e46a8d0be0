"""What a run checks by itself, before anything is copied or started."""

from __future__ import annotations

import sys
from dataclasses import replace

from launcher.fleet.findings.preflight import of_facts
from launcher.spec.model import Facts, Host
from support import lab as labs
from support.command import Launcher

FACTS = Facts("a", "a", "/r", "python3", "3.11.7", 8, (("eth0", "10.0.0.1"),), disk_free=10**12)


def test_a_run_on_a_missing_interface_is_refused_at_once(
    clean: labs.Lab, launcher: Launcher
) -> None:
    """Within a second of work, with code and fix; and nothing was copied there."""
    text = labs.inventory(clean, sys.executable).replace("lab2: {}", "lab2: {interface: enp3s1}")
    launcher.inventory.write_text(text)
    ran = launcher.run("--hosts", "lab1,lab2", "--framework", "env", "echo started")
    assert ran.code == 125
    assert ran.receipt["reason"] == "check-failed"
    assert "lab2: the inventory says interface: enp3s1; the host has enp3s0 up" in ran.err
    assert "NET-INTERFACE-UNKNOWN" in ran.err
    assert "interface: enp3s0 in the inventory" in ran.err
    assert "started" not in ran.out
    assert "sync" not in ran.receipt["stages"]
    assert ran.receipt["seconds"] < 5


def test_no_check_insists(clean: labs.Lab, launcher: Launcher) -> None:
    text = labs.inventory(clean, sys.executable).replace("lab2: {}", "lab2: {interface: enp3s1}")
    launcher.inventory.write_text(text)
    ran = launcher.run("--no-check", "--hosts", "lab2", "--framework", "env", "echo started")
    assert ran.code == 0
    assert "started" in ran.out


def test_only_what_makes_a_run_pointless() -> None:
    """A clock that is off, a small disk, and NCCL's own notation are no reasons."""
    host = Host("a")
    assert of_facts([host], {"a": FACTS}) == ()
    fine = replace(FACTS, clock_offset=600.0, disk_free=5_000_000)
    for notation in ("eth", "^docker", "=eth0", "ib0,eth0"):
        assert of_facts([replace(host, interface=notation)], {"a": fine}) == ()
    (disk,) = of_facts([host], {"a": replace(FACTS, disk_free=1000)})
    assert disk.code == "DISK-FULL"
