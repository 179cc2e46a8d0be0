"""What can be wrong with a host or between two: each its own error, with host and hint, in seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import lab as labs
import pytest
from conftest import SPECS, Launcher


@pytest.fixture
def own(tmp_path: Path) -> Iterator[labs.Lab]:
    """A lab for one test alone, to be broken."""
    reason = labs.missing()
    if reason:
        pytest.skip(f"no lab of real hosts here: {reason}")
    with labs.Lab(SPECS[:2], tmp_path / "own") as standing:
        yield standing


def _forget_key(lab: labs.Lab) -> None:
    lab.known_hosts.write_text("")


CASES: dict[str, tuple[Callable[[labs.Lab], object], str]] = {
    "unknown key": (_forget_key, "unknown-host-key"),
    "wrong key": (lambda lab: lab.hosts["lab2"].change_host_key(), "host-key-mismatch"),
    "refused": (lambda lab: lab.hosts["lab2"].stop_sshd(), "connection-refused"),
    "dropped packets": (lambda lab: lab.hosts["lab2"].drop_packets(), "unreachable"),
    "frozen sshd": (lambda lab: lab.hosts["lab2"].freeze_sshd(), "sshd-frozen"),
    "no rsync": (lambda lab: lab.hosts["lab2"].hide("/usr/bin/rsync"), "no-rsync"),
    "read-only home": (lambda lab: lab.hosts["lab2"].read_only_home(), "not-writable"),
    "firewall": (lambda lab: lab.hosts["lab1"].block_port(29555), "no-meeting-point"),
}


@pytest.mark.parametrize("case", CASES)
def test_each_trouble_has_its_own_error(own: labs.Lab, launcher: Launcher, case: str) -> None:
    """The error names the host and says what to do; nothing is left on the other one."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    breaks, code = CASES[case]
    breaks(own)
    ran = launcher.run(
        "--nodes", "2", "--framework", "env", "--master-port", "29555", "--", "true", timeout=40
    )  # fmt: skip
    assert ran.code == 125, ran.err
    assert ran.receipt["reason"] == code, ran.err
    assert "hint:" in ran.err
    named = "lab1" if case == "unknown key" else "lab2"
    assert named in ran.receipt["error"]
    if case == "firewall":
        assert "lab1" in ran.receipt["error"]
    assert ran.receipt["seconds"] < 25
    assert not [p for p in own.hosts["lab1"].processes() if "LAUNCHER_RUN_ID" in p.environ]


def test_a_python_that_is_not_there(own: labs.Lab, launcher: Launcher) -> None:
    """The inventory's python: is named."""
    launcher.inventory.write_text(labs.inventory(own, "/opt/none/python"))
    ran = launcher.run("--nodes", "2", "--framework", "env", "--", "true")
    assert ran.receipt["reason"] == "no-python"
    assert "/opt/none/python" in ran.err


def test_a_name_that_leads_to_loopback(own: labs.Lab, launcher: Launcher) -> None:
    """--master-addr by a name that each host maps to itself: both hosts are named, in seconds."""
    launcher.inventory.write_text(labs.inventory(own, "python3"))
    own.hosts["lab2"].run("sh", "-c", "echo 127.0.1.1 trap >>/etc/hosts")
    ran = launcher.run(
        "--nodes", "2", "--framework", "env", "--master-addr", "trap", "--", "true"
    )  # fmt: skip
    assert ran.receipt["reason"] == "no-meeting-point"
    assert "lab2 cannot reach lab1" in ran.err
    assert "leads back" in ran.err
