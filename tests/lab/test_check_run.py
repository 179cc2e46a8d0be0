"""What a run checks by itself, before anything is copied or started."""

from __future__ import annotations

import sys

from support import lab as labs
from support.command import Launcher


def test_a_run_on_a_missing_interface_is_refused_at_once(
    clean: labs.Lab, launcher: Launcher
) -> None:
    """As soon as hosts are connected, with code and fix; and nothing was copied there."""
    text = labs.inventory(clean, sys.executable).replace("lab2: {}", "lab2: {interface: enp3s1}")
    launcher.inventory.write_text(text)
    ran = launcher.run("--hosts", "lab1,lab2", "--framework", "env", "echo started")
    assert ran.code == 125
    assert ran.receipt["reason"] == "check-failed"
    assert "lab2: the inventory says interface: enp3s1; the host has enp3s0 up" in ran.err
    assert "NET-INTERFACE-UNKNOWN" in ran.err
    assert "interface: enp3s0 in the inventory" in ran.err
    assert "started" not in ran.out
    assert set(ran.receipt["stages"]) == {"connect", "collect"}, "neither a copy nor a start"


def test_no_check_insists(clean: labs.Lab, launcher: Launcher) -> None:
    text = labs.inventory(clean, sys.executable).replace("lab2: {}", "lab2: {interface: enp3s1}")
    launcher.inventory.write_text(text)
    ran = launcher.run("--no-check", "--hosts", "lab2", "--framework", "env", "echo started")
    assert ran.code == 0
    assert "started" in ran.out
